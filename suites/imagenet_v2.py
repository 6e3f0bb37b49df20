import nsbench as nb


@nb.suite(
    title="V2",
    group="ood",
    score=nb.accuracy,
    order=8,
    citation="Recht et al. 2019, Do ImageNet Classifiers Generalize to ImageNet?, arXiv:1902.10811",
)
def imagenet_v2() -> list[nb.Condition]:
    """Top-1 accuracy on images collected anew by the original procedure (matched-frequency for ImageNet), prepared with
    the checkpoint's own resize and crop."""
    return [nb.Condition("v2", split="v2")]
