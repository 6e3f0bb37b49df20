"""Which models there are to name, without torch: `nsbench list models` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EMBEDDED = "vit_shapes10"
ROBUSTBENCH = "robustbench"
DEFAULT_THREAT = "Linf"


@dataclass(frozen=True)
class Place:
    """Where models come from, written before a colon."""

    form: str  # what a user writes
    module: str  # its function `load` gives the model
    what: str  # for people


PLACES = {
    "hf-hub": Place("hf-hub:OWNER/NAME[@REVISION]", "nsbench.models.timm_folders", "a repository in timm's form"),
    "local-dir": Place(
        "local-dir:FOLDER", "nsbench.models.timm_folders", "a folder in timm's form, as export writes it"
    ),
    "torchvision": Place("torchvision:NAME[:WEIGHTS]", "nsbench.models.torchvision_zoo", "torchvision's weights"),
    "transformers": Place(
        "transformers:OWNER/NAME[@REVISION] or transformers:FOLDER",
        "nsbench.models.transformers_zoo",
        "image classifiers of transformers; ViT and DeiT are read into timm's networks",
    ),
    ROBUSTBENCH: Place(f"{ROBUSTBENCH}:NAME[:THREAT]", "nsbench.models.robustbench", "RobustBench's ImageNet zoo"),
}
OWN_CODE = Place(
    "PACKAGE.MODULE:FUNCTION or ./FILE.py:FUNCTION",
    "nsbench.models.own_code",
    "your own code: a function that returns an nn.Module from images in [0, 1] to logits",
)


@dataclass(frozen=True)
class Known:
    """A model that can be named."""

    name: str
    family: str
    parameters: float | None  # millions
    size: int | None  # side of its input, pixels
    weights: str  # where they come from
    note: str = ""

    def words(self) -> str:
        """One line."""
        scale = f"{self.parameters:g} M parameters" if self.parameters else ""
        pixels = f"{self.size} px" if self.size else ""
        return "; ".join(filter(None, [self.family, scale, pixels, self.weights, self.note]))


TIMM = "timm's, or --checkpoint FILE"
_KNOWN = (
    Known(EMBEDDED, "ViT", 0.8, 48, "shipped", "for shapes10: patch 8, width 128, depth 6"),
    Known("vit_tiny_patch16_224", "ViT", 5.7, 224, TIMM),
    Known("vit_small_patch16_224", "ViT", 22.1, 224, TIMM, "ViT-S of the paper"),
    Known("vit_small_patch32_224", "ViT", 22.9, 224, TIMM, "ViT-S/32 of the paper's figure 3"),
    Known("vit_base_patch16_224", "ViT", 86.6, 224, TIMM, "ViT-B of the paper"),
    Known("vit_base_patch32_224", "ViT", 88.2, 224, TIMM, "ViT-B/32 of the paper's figure 3"),
    Known("vit_large_patch16_224", "ViT", 304.3, 224, TIMM),
    Known("deit_tiny_patch16_224", "DeiT", 5.7, 224, TIMM),
    Known("deit_small_patch16_224", "DeiT", 22.1, 224, TIMM),
    Known("deit_base_patch16_224", "DeiT", 86.6, 224, TIMM),
    Known("deit_base_distilled_patch16_224", "DeiT", 87.3, 224, TIMM, "two tokens, two classifiers"),
    Known(
        "vit_small_patch14_reg4_dinov2", "DINOv2", 22.1, 518, "--checkpoint FILE with a classifier", "register tokens"
    ),
)


def catalogue() -> list[Known]:
    """Models with a name of their own. Every other timm model works too, by its timm name, and see PLACES."""
    return [*_KNOWN, *map(_of_robustbench, known_robustbench())]


def _of_robustbench(entry: tuple[str, str]) -> Known:
    name, threat = entry
    full = f"{ROBUSTBENCH}:{name}" + ("" if threat == DEFAULT_THREAT else f":{threat}")
    return Known(full, f"RobustBench {threat}", None, None, "downloaded on first use")


def known_models() -> dict[str, str]:
    """Name to one line about it."""
    return {one.name: one.words() for one in catalogue()}


def known_robustbench() -> list[tuple[str, str]]:
    """(name, threat model) of each ImageNet model in the zoo of robustbench 1.1.1, without importing it."""
    lines = (Path(__file__).parent / "robustbench_zoo.txt").read_text().splitlines()
    return [(name, threat) for threat, name in (line.split(" ", 1) for line in lines)]
