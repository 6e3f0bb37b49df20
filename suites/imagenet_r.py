import nsbench as nb


@nb.suite(
    title="R",
    group="ood",
    score=nb.accuracy,
    watched=True,
    order=9,
    citation="Hendrycks et al. 2021, The Many Faces of Robustness: A Critical Analysis of Out-of-Distribution "
    "Generalization, arXiv:2006.16241",
)
def imagenet_r() -> list[nb.Condition]:
    """Top-1 accuracy on renditions (art, cartoons, toys ...); the prediction is the argmax over this set's own classes
    (200 of ImageNet), and the accuracy over all classes stands beside it."""
    return [nb.Condition("r", split="r")]
