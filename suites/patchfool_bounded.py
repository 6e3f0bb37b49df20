import nsbench as nb

BOUNDS = {"l-inf 32/255": ("linf", 32 / 255), "l-inf 64/255": ("linf", 64 / 255), "l2 2": ("l2", 2), "l2 4": ("l2", 4)}


@nb.suite(
    title="Patch-Fool mild",
    group="adversarial",
    score=nb.accuracy,
    order=106,
    paper=False,
    citation="Fu et al. 2022, Patch-Fool: Are Vision Transformers Always Robust Against Adversarial "
    "Perturbations?, arXiv:2203.08392",
)
def patchfool_bounded() -> list[nb.Condition]:
    """Top-1 accuracy on at most 1,000 validation images (a stable subset, balanced over classes) under Patch-Fool on
    the most attended patch, whose change stays within l-inf 32/255 (steps of 0.05); beside it within l-inf 64/255 and
    within l2 2 and 4."""
    settings = {"steps": 250, "lr": 0.05}
    patches = {name: (norm, nb.ThreatModel("patch", eps, patches=1)) for name, (norm, eps) in BOUNDS.items()}
    return [
        nb.Condition(name, attack="patchfool", threat=patch, limit=1000, params={**settings, "bound": norm})
        for name, (norm, patch) in patches.items()
    ]
