import nsbench as nb


@nb.suite(
    title="DAmageNet",
    group="adversarial",
    score=nb.accuracy,
    order=5,
    citation="Chen et al. 2022, Universal Adversarial Attack on Attention and the Resulting Dataset DAmageNet, "
    "arXiv:2001.06325",
)
def damagenet() -> list[nb.Condition]:
    """Top-1 accuracy on validation images that were attacked beforehand on another network, used as they are: they are
    never resized, because resizing weakens them."""
    budget = nb.ThreatModel("linf", 25.5 / 255)
    return [nb.Condition("damagenet", split="damagenet", preprocess="none", beforehand=budget)]
