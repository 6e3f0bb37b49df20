import nsbench as nb

ONE_PATCH = nb.ThreatModel("patch", patches=1)


@nb.suite(
    title="Patch-Fool choice",
    group="adversarial",
    score=nb.accuracy,
    order=105,
    paper=False,
    citation="Fu et al. 2022, Patch-Fool: Are Vision Transformers Always Robust Against Adversarial "
    "Perturbations?, arXiv:2203.08392",
)
def patchfool_select() -> list[nb.Condition]:
    """Top-1 accuracy on at most 5,000 validation images (a stable subset, balanced over classes) under Patch-Fool with
    the patch of the largest loss gradient (saliency), and beside it with a random patch; all else as in the suite with
    the most attended patch."""
    return [
        nb.Condition(select, attack="patchfool", threat=ONE_PATCH, params={"steps": 250, "select": select}, limit=5000)
        for select in ("saliency", "random")
    ]
