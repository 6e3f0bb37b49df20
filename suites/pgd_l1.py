import nsbench as nb

HEADLINE, *CURVE = 255, 12, 60


@nb.suite(
    title="PGD L1",
    group="adversarial",
    score=nb.accuracy,
    order=109,
    paper=False,
    citation="Tramer and Boneh 2019, Adversarial Training and Robustness for Multiple Perturbations, arXiv:1904.13000; "
    "Croce and Hein 2022, arXiv:2105.12508, for the budget",
)
def pgd_l1() -> list[nb.Condition]:
    """Top-1 accuracy on at most 1,000 validation images (a stable subset, balanced over classes) after 100 l1 PGD steps
    of 2.5 eps / steps, each on the steepest hundredth of the values, at eps 255 in the sum over all values of [0, 1],
    which is meant for 224 x 224 pixels; beside it at 60 and 12, the budget of 32 x 32 pixels. No training here sees l1."""
    return [
        nb.Condition(f"eps {eps}", attack="pgd", threat=nb.ThreatModel("l1", eps), params={"steps": 100}, limit=1000)
        for eps in (HEADLINE, *CURVE)
    ]
