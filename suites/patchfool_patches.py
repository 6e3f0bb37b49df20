import nsbench as nb


@nb.suite(
    title="Patch-Fool 2, 4",
    group="adversarial",
    score=nb.accuracy,
    order=104,
    paper=False,
    citation="Fu et al. 2022, Patch-Fool: Are Vision Transformers Always Robust Against Adversarial "
    "Perturbations?, arXiv:2203.08392",
)
def patchfool_patches() -> list[nb.Condition]:
    """Top-1 accuracy on at most 5,000 validation images (a stable subset, balanced over classes) under Patch-Fool with
    the two most attended patches, and beside it with the four; all else as in the suite with one patch."""
    return [
        nb.Condition(
            f"{k} patches",
            attack="patchfool",
            threat=nb.ThreatModel("patch", patches=k),
            params={"steps": 250},
            limit=5000,
        )
        for k in (2, 4)
    ]
