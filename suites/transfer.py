import nsbench as nb

HEADLINE, *CURVE = 8, 4, 16  # eps in 1/255


@nb.suite(
    title="Transfer",
    group="adversarial",
    score=nb.accuracy,
    order=108,
    paper=False,
    citation="Dong et al. 2018, Boosting Adversarial Attacks with Momentum, arXiv:1710.06081",
)
def transfer() -> list[nb.Condition]:
    """Top-1 accuracy on at most 1,000 validation images (a stable subset, balanced over classes) that were attacked on
    a surrogate beforehand, by ten MI-FGSM steps, l-inf 8/255, in 8 bits, used as they are; 4 and 16 /255 stand beside.
    The data source names the surrogate (of shapes10 its own checkpoint); judged on its own images, it is white-box."""
    ready = {"preprocess": "none", "limit": 1000}
    budgets = {k: nb.ThreatModel("linf", k / 255) for k in (HEADLINE, *CURVE)}
    return [
        nb.Condition(f"eps {k}/255", split=f"transfer/{k}", threat=budget, beforehand=budget, **ready)
        for k, budget in budgets.items()
    ]
