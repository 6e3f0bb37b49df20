import nsbench as nb

HEADLINE, *CURVE = 0.01, 0.005, 0.025  # of the image's side


@nb.suite(
    title="StAdv",
    group="adversarial",
    score=nb.accuracy,
    order=112,
    paper=False,
    citation="Xiao et al. 2018, Spatially Transformed Adversarial Examples, arXiv:1801.02612",
)
def stadv() -> list[nb.Condition]:
    """Top-1 accuracy on at most 1,000 validation images (a stable subset, balanced over classes) under a smooth flow that
    moves pixels and adds nothing: at most 1 % of the side (2.24 of 224 pixels) down or right, 100 Adam steps on the margin
    with tau 1; beside it 0.5 and 2.5 %. The bound is nsbench's: the paper has none."""
    return [
        nb.Condition(f"{100 * share:g} %", attack="stadv", threat=nb.ThreatModel("flow", share=share), limit=1000)
        for share in (HEADLINE, *CURVE)
    ]
