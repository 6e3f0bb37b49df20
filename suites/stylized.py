import nsbench as nb


@nb.suite(
    title="Stylized",
    group="ood",
    score=nb.accuracy,
    order=11,
    citation="Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture; increasing shape bias "
    "improves accuracy and robustness, arXiv:1811.12231",
)
def stylized() -> list[nb.Condition]:
    """Top-1 accuracy on validation images whose texture was replaced by that of a painting, over all classes; the
    images are used as they are, never resized."""
    return [nb.Condition("stylized", split="stylized", preprocess="none")]
