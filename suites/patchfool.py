import nsbench as nb

ONE_PATCH = nb.ThreatModel("patch", patches=1)


@nb.suite(
    title="Patch-Fool",
    group="adversarial",
    score=nb.accuracy,
    order=2,
    citation="Fu et al. 2022, Patch-Fool: Are Vision Transformers Always Robust Against Adversarial "
    "Perturbations?, arXiv:2203.08392",
)
def patchfool() -> list[nb.Condition]:
    """Top-1 accuracy on at most 5,000 validation images (a stable subset, balanced over classes) under Patch-Fool: the
    patch that layer 4 attends to most is replaced by one learned in at most 250 Adam steps of 0.22, with PCGrad
    attention loss; an image stops at its first misclassification."""
    return [nb.Condition("1 patch", attack="patchfool", threat=ONE_PATCH, params={"steps": 250}, limit=5000)]
