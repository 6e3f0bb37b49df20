"""AugMix, and negative views made of one of its views."""

from typing import Literal

import nsbench as nb


def requires(model, recipe, transform="infill", tile=0, rate=0.25, **others):
    nb.negative_view(model, transform, tile=tile, rate=rate)


@nb.method(
    title="AugMix + PR",
    citation="Qin et al. 2022, arXiv:2110.07858",
    order=70,
    passes=nb.FitPasses(4, trained=4),
    requires=requires,
)
def augmix_pr(
    model,
    train,
    recipe,
    *,
    js_weight: float = 12.0,
    severity: float = 1.0,
    transform: Literal["rotate", "shuffle", "infill"] = "infill",
    loss: Literal["uniform", "l2", "contrastive"] = "uniform",
    weight: float = 1.0,
    tile: int = 0,
    rate: float = 0.25,
    **run,
):
    """Joint training: the loss of AugMix + weight x PR's uncertainty loss for one AugMix view whose centre is filled
    with patches from its border.

    Infill and uniform are those of the published row; whether it has AugMix's divergence term is not published, and
    here it has. Settings and what is left out of the recipe are as in `augmix` and `pr`. Four passes a step."""
    mixed = nb.mixed_chains(severity=severity)
    views = nb.Views(pictures=(mixed, mixed), batch=nb.negative_view(model, transform, tile=tile, rate=rate))
    others = {"randaugment": "", "color_jitter": 0.0, "mixup": 0.0, "cutmix": 0.0}
    repel = nb.negative_loss(loss, recipe.model_copy(update=others))

    def losses(model, views, targets, criterion):
        *positive, negative = nb.seen(model, views)
        return {
            "clean": criterion(positive[0].logits, targets),
            "js": js_weight * nb.jensen_shannon([view.logits for view in positive]),
            "negative": weight * repel(positive[-1], negative, targets),
        }

    return nb.finetune(model, train, recipe, losses=losses, views=views, augmentation=others, **run)
