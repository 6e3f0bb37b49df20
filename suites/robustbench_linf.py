import nsbench as nb


@nb.suite(
    title="RobustBench",
    group="adversarial",
    score=nb.accuracy,
    order=103,
    paper=False,
    citation="Croce et al. 2021, RobustBench: a standardized adversarial robustness benchmark, arXiv:2010.09670",
)
def robustbench_linf() -> list[nb.Condition]:
    """Top-1 accuracy on the 5,000 validation images of RobustBench under the standard version of AutoAttack, l-inf at
    eps 4/255, each model with the preprocessing that it declares, as there; every image has draws of its own."""
    return [
        nb.Condition("eps 4/255", split="robustbench", attack="autoattack", threat=nb.ThreatModel("linf", 4 / 255)),
        nb.Condition("clean", split="robustbench"),
    ]
