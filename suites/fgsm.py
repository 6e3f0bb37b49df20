import nsbench as nb

HEADLINE, *CURVE = 1, 0.5, 2, 4, 8  # eps in 1/255


@nb.suite(
    title="FGSM",
    group="adversarial",
    score=nb.accuracy,
    watched=True,
    order=4,
    citation="Goodfellow et al. 2015, Explaining and Harnessing Adversarial Examples, arXiv:1412.6572",
)
def fgsm() -> list[nb.Condition]:
    """Top-1 accuracy on the validation images after one l-inf sign step of 1/255 with the true label, no random start;
    the curve at 0.5, 2, 4 and 8 /255 stands beside it."""
    return [
        nb.Condition(f"eps {k:g}/255", attack="fgsm", threat=nb.ThreatModel("linf", k / 255))
        for k in (HEADLINE, *CURVE)
    ]
