"""RandAugment, and negative views made of the pictures that it gives."""

from typing import Literal

import nsbench as nb


def requires(model, recipe, transform="rotate", tile=0, rate=0.25, **others):
    nb.negative_view(model, transform, tile=tile, rate=rate)


@nb.method(
    title="RandAugment + PR",
    citation="Qin et al. 2022, arXiv:2110.07858",
    order=68,
    passes=nb.FitPasses(2, trained=2),
    requires=requires,
)
def randaugment_pr(
    model,
    train,
    recipe,
    *,
    operations: str = "rand-m9-mstd0.5-inc1",
    transform: Literal["rotate", "shuffle", "infill"] = "rotate",
    loss: Literal["uniform", "l2", "contrastive"] = "uniform",
    weight: float = 1.0,
    tile: int = 0,
    rate: float = 0.25,
    **run,
):
    """Joint training: RandAugment makes the pictures, and their tiles are rotated for the negative views of PR.

    Cross-entropy(RandAugment's picture) + weight x the uncertainty loss of its negative view; settings as in
    `randaugment` and `pr`. A recipe with this RandAugment makes it `pr`. Two passes a step."""
    negatives = nb.Views(batch=nb.negative_view(model, transform, tile=tile, rate=rate))
    repel = nb.negative_loss(loss, recipe)

    def losses(model, views, targets, criterion):
        clean, negative = nb.seen(model, views)
        return {"clean": criterion(clean.logits, targets), "negative": weight * repel(clean, negative, targets)}

    augmentation = {"randaugment": operations, "color_jitter": 0.0}
    return nb.finetune(model, train, recipe, losses=losses, views=negatives, augmentation=augmentation, **run)
