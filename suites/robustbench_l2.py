import nsbench as nb


@nb.suite(
    title="RobustBench L2",
    group="adversarial",
    score=nb.accuracy,
    order=104,
    paper=False,
    citation="Croce et al. 2021, RobustBench: a standardized adversarial robustness benchmark, arXiv:2010.09670; "
    "Salman et al. 2020, arXiv:2007.08489, for the budget",
)
def robustbench_l2() -> list[nb.Condition]:
    """Top-1 accuracy on the 5,000 validation images of RobustBench under the standard version of AutoAttack, l2 at
    eps 3.0 in pixels of [0, 1], each model with the preprocessing that it declares; every image has draws of its own."""
    return [
        nb.Condition("eps 3", split="robustbench", attack="autoattack", threat=nb.ThreatModel("l2", 3.0)),
        nb.Condition("clean", split="robustbench"),
    ]
