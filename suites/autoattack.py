import nsbench as nb


@nb.suite(
    title="AutoAttack",
    group="adversarial",
    score=nb.accuracy,
    order=102,
    paper=False,
    citation="Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse "
    "parameter-free attacks, arXiv:2003.01690",
)
def autoattack() -> list[nb.Condition]:
    """Top-1 accuracy on at most 1,000 validation images (a stable subset, balanced over classes) under the standard
    version of AutoAttack, l-inf at eps 4/255; every image has draws of its own, those of pyautoattack for a batch of this
    one image, so that the outcome does not depend on its neighbours."""
    return [nb.Condition("eps 4/255", attack="autoattack", threat=nb.ThreatModel("linf", 4 / 255), limit=1000)]
