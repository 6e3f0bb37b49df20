import nsbench as nb

SQUARE = nb.ThreatModel("square", share=50 / 224)


@nb.suite(
    title="Patch",
    group="adversarial",
    score=nb.accuracy,
    order=111,
    paper=False,
    citation="Brown et al. 2017, Adversarial Patch, arXiv:1712.09665; Karmon et al. 2018, LaVAN: Localized and Visible "
    "Adversarial Noise, arXiv:1801.02608",
)
def patch() -> list[nb.Condition]:
    """Top-1 accuracy on at most 1,000 validation images (a stable subset, balanced over classes) under a square of any
    content, 50 of 224 pixels wide (that share of the side in images of another size), at one of five places drawn from
    the seed and the image id: 50 sign steps of 0.05 at each, an image stopping at its first misclassification."""
    settings = {"steps": 50, "step_size": 0.05, "restarts": 5}
    return [nb.Condition("50 of 224", attack="patch", threat=SQUARE, params=settings, limit=1000)]
