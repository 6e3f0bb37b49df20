import nsbench as nb

HEADLINE, *CURVE = 255, 12, 60


@nb.suite(
    title="APGD L1",
    group="adversarial",
    score=nb.accuracy,
    order=109,
    paper=False,
    citation="Croce and Hein 2021, Mind the Box: l1-APGD for Sparse Adversarial Attacks, arXiv:2103.01208; "
    "Croce and Hein 2022, arXiv:2105.12508, for the budget",
)
def apgd_l1() -> list[nb.Condition]:
    """Top-1 accuracy on at most 1,000 validation images (a stable subset, balanced over classes) after 100 steps of
    Auto-PGD in l1 on the cross-entropy, 30 each at three times and at twice eps before those that count, at eps 255 in
    the sum over all values of [0, 1], which is meant for 224 x 224 pixels; beside it at 60 and 12, the budget of 32 x 32
    pixels."""
    return [
        nb.Condition(f"eps {eps}", attack="apgd", threat=nb.ThreatModel("l1", eps), params={"steps": 100}, limit=1000)
        for eps in (HEADLINE, *CURVE)
    ]
