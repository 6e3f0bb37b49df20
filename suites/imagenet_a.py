import nsbench as nb


@nb.suite(
    title="A",
    group="ood",
    score=nb.accuracy,
    order=6,
    citation="Hendrycks et al. 2021, Natural Adversarial Examples, arXiv:1907.07174",
)
def imagenet_a() -> list[nb.Condition]:
    """Top-1 accuracy on natural images that misled another network; the prediction is the argmax over this set's own
    classes (200 of ImageNet), and the accuracy over all classes stands beside it."""
    return [nb.Condition("a", split="a")]
