"""Patch-based negative augmentation: no certainty for images whose patches are in a wrong place."""

from typing import Literal

import nsbench as nb


def requires(model, recipe, transform="rotate", tile=0, rate=0.25, **others):
    nb.negative_view(model, transform, tile=tile, rate=rate)


@nb.method(
    title="PR",
    citation="Qin et al. 2022, arXiv:2110.07858",
    order=66,
    passes=nb.FitPasses(2, trained=2),
    requires=requires,
)
def pr(
    model,
    train,
    recipe,
    *,
    transform: Literal["rotate", "shuffle", "infill"] = "rotate",
    loss: Literal["uniform", "l2", "contrastive"] = "uniform",
    weight: float = 1.0,
    tile: int = 0,
    rate: float = 0.25,
    temperature: float = 0.1,
    **run,
):
    """Trains with cross-entropy(clean) + weight x a loss that rewards uncertainty for the same images with rotated tiles.

    `transform` is rotate, shuffle or infill, `loss` uniform, l2 or contrastive. Defaults are those of the published row,
    rotate and uniform; weight 1 is the middle of the three that were tried. The tile (0) is two patches wide, 32 pixels
    at 224, and one for infill. The views are made of what is trained on, mixed and erased. Contrastive: temperature
    0.1, since none is published, over whole batches alone. Two passes a step."""
    negatives = nb.Views(batch=nb.negative_view(model, transform, tile=tile, rate=rate))
    repel = nb.negative_loss(loss, recipe, temperature=temperature)

    def losses(model, views, targets, criterion):
        clean, negative = nb.seen(model, views)
        return {"clean": criterion(clean.logits, targets), "negative": weight * repel(clean, negative, targets)}

    return nb.finetune(model, train, recipe, losses=losses, views=negatives, **run)
