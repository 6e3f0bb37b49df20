import nsbench as nb

HEADLINE, *CURVE = 4, 0.5, 1, 2, 8  # eps in 1/255
MORE = {"50 steps": {"steps": 50}, "5 restarts": {"steps": 10, "restarts": 5}}


@nb.suite(
    title="PGD",
    group="adversarial",
    score=nb.accuracy,
    order=101,
    paper=False,
    citation="Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv:1706.06083",
)
def pgd() -> list[nb.Condition]:
    """Top-1 accuracy on the validation images after 10 l-inf PGD steps of 2.5 eps / steps on the cross-entropy at
    eps 4/255, from one random start, an image stopping at its first misclassification; beside it the curve at 0.5, 1, 2
    and 8 /255, and at 4/255 50 steps, and the best of 5 restarts."""

    def condition(name: str, k: float, params: dict) -> nb.Condition:
        return nb.Condition(f"eps {k:g}/255{name}", attack="pgd", threat=nb.ThreatModel("linf", k / 255), params=params)

    return [condition("", k, {"steps": 10}) for k in (HEADLINE, *CURVE)] + [
        condition(f", {name}", HEADLINE, params) for name, params in MORE.items()
    ]
