import nsbench as nb


@nb.suite(
    title="Clean",
    group="clean",
    score=nb.accuracy,
    watched=True,
    order=1,
    citation="Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge, arXiv:1409.0575",
)
def clean() -> list[nb.Condition]:
    """Top-1 accuracy on the validation images, prepared with the checkpoint's own resize, crop and interpolation."""
    return [nb.Condition("clean")]
