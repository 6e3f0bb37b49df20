import nsbench as nb

HEADLINE, *CURVE = 2.0, 0.5, 1.0, 3.0


@nb.suite(
    title="PGD L2",
    group="adversarial",
    score=nb.accuracy,
    order=110,
    paper=False,
    citation="Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv:1706.06083; "
    "Croce and Hein 2022, arXiv:2105.12508, for the budget",
)
def pgd_l2() -> list[nb.Condition]:
    """Top-1 accuracy on at most 1,000 validation images (a stable subset, balanced over classes) after 50 l2 PGD steps
    of 2.5 eps / steps at eps 2 in pixels of [0, 1], which is meant for 224 x 224 pixels; beside it at 1, at 0.5, the
    budget of 32 x 32 pixels, and at 3, that of Salman et al. 2020. No training here sees l2."""
    return [
        nb.Condition(f"eps {eps:g}", attack="pgd", threat=nb.ThreatModel("l2", eps), params={"steps": 50}, limit=1000)
        for eps in (HEADLINE, *CURVE)
    ]
