import nsbench as nb

SETTINGS = {"c": 1.0, "kappa": 0.0, "steps": 50, "lr": 0.01}


@nb.suite(
    title="CW",
    group="adversarial",
    score=nb.accuracy,
    order=3,
    citation="Carlini and Wagner 2017, Towards Evaluating the Robustness of Neural Networks, arXiv:1608.04644",
)
def cw() -> list[nb.Condition]:
    """Top-1 accuracy on the validation images under Carlini-Wagner l2 (c = 1, kappa = 0, 50 Adam steps of 0.01) without
    a bound on the norm; the accuracies at l2 budgets and the norms of the successes stand beside it. As c is fixed, small
    logits weaken the attack; what that leaves right is flagged."""
    return [nb.Condition("c 1", attack="cw", threat=nb.ThreatModel("l2"), params=SETTINGS)]
