import nsbench as nb

SETTINGS = {"c": 1.0, "search_steps": 5, "kappa": 0.0, "steps": 50, "lr": 0.01}


@nb.suite(
    title="CW search",
    group="adversarial",
    score=nb.accuracy,
    order=103,
    paper=False,
    citation="Carlini and Wagner 2017, Towards Evaluating the Robustness of Neural Networks, arXiv:1608.04644",
)
def cw_search() -> list[nb.Condition]:
    """Top-1 accuracy on the validation images under Carlini-Wagner l2 with a binary search for each image's c (5 values
    from c = 1, for each kappa = 0 and 50 Adam steps of 0.01) without a bound on the norm; the accuracies at l2 budgets
    and the norms of the successes, which are what the search brings down, stand beside it."""
    return [nb.Condition("5 x 50", attack="cw_search", threat=nb.ThreatModel("l2"), params=SETTINGS)]
