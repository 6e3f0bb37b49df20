"""Which models there are to name, without torch: `nsbench list models` reads this."""

from __future__ import annotations

from pathlib import Path

EMBEDDED = "vit_shapes10"
ROBUSTBENCH = "robustbench"
DEFAULT_THREAT = "Linf"

_KNOWN = {
    EMBEDDED: "ViT of 0.8 M parameters for shapes10 (48 px, patch 8, width 128, depth 6); its weights are shipped",
    "vit_tiny_patch16_224": "timm; needs --checkpoint FILE",
    "vit_small_patch16_224": "timm; needs --checkpoint FILE; ViT-S of the paper",
    "vit_small_patch32_224": "timm; needs --checkpoint FILE; ViT-S/32 of the paper's figure 3",
    "vit_base_patch16_224": "timm; needs --checkpoint FILE; ViT-B of the paper",
    "vit_base_patch32_224": "timm; needs --checkpoint FILE; ViT-B/32 of the paper's figure 3",
    "vit_large_patch16_224": "timm; needs --checkpoint FILE",
    "deit_tiny_patch16_224": "timm; needs --checkpoint FILE",
    "deit_small_patch16_224": "timm; needs --checkpoint FILE",
    "deit_base_patch16_224": "timm; needs --checkpoint FILE",
    "deit_base_distilled_patch16_224": "timm; needs --checkpoint FILE; two tokens, two classifiers",
    "vit_small_patch14_reg4_dinov2": "timm; needs --checkpoint FILE; register tokens",
}


def known_models() -> dict[str, str]:
    """Name to one line about it. Every other timm vision transformer works too, by its timm name."""
    zoo = {
        f"{ROBUSTBENCH}:{name}" + ("" if threat == DEFAULT_THREAT else f":{threat}"): f"RobustBench, {threat}; "
        "its weights are downloaded on first use"
        for name, threat in known_robustbench()
    }
    return _KNOWN | zoo


def known_robustbench() -> list[tuple[str, str]]:
    """(name, threat model) of each ImageNet model in the zoo of robustbench 1.1.1, without importing it."""
    lines = (Path(__file__).parent / "robustbench_zoo.txt").read_text().splitlines()
    return [(name, threat) for threat, name in (line.split(" ", 1) for line in lines)]
