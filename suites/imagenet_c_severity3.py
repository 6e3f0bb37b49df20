import nsbench as nb


@nb.suite(
    title="C severity 3",
    group="ood",
    score=nb.partial_corruption_error,
    order=107,
    unit="% error",
    lower_is_better=True,
    paper=False,
    citation="a fifth of ImageNet-C: Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def imagenet_c_severity3() -> list[nb.Condition]:
    """Mean error over the fifteen corruptions at severity 3 alone: a part of ImageNet-C for small runs, and no mCE.
    Corrupted images, ready-made or made in memory from clean ones, are not resized."""
    return [
        nb.Condition(f"{corruption}/3", split=f"c/{corruption}/3", preprocess="none") for corruption in nb.CORRUPTIONS
    ]
