import nsbench as nb


@nb.suite(
    title="Sketch",
    group="ood",
    score=nb.accuracy,
    order=10,
    citation="Wang et al. 2019, Learning Robust Global Representations by Penalizing Local Predictive Power, "
    "arXiv:1905.13549",
)
def imagenet_sketch() -> list[nb.Condition]:
    """Top-1 accuracy on black-and-white sketches, over all classes, prepared with the checkpoint's own resize and
    crop."""
    return [nb.Condition("sketch", split="sketch")]
