import nsbench as nb


@nb.suite(
    title="C",
    group="ood",
    score=nb.mean_corruption_error,
    order=7,
    unit="mCE",
    lower_is_better=True,
    citation="Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions and "
    "Perturbations, arXiv:1903.12261",
)
def imagenet_c() -> list[nb.Condition]:
    """Mean corruption error: over fifteen corruptions, the mean error over severities 1 to 5 divided by AlexNet's,
    times 100; lower is better. Corrupted images, ready-made or made in memory from clean ones, are not
    resized."""
    return [
        nb.Condition(f"{corruption}/{severity}", split=f"c/{corruption}/{severity}", preprocess="none")
        for corruption in nb.CORRUPTIONS
        for severity in range(1, 6)
    ]
