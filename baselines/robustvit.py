"""RobustViT: what the prediction rests on is driven from the background to the object."""

import nsbench as nb


def needs(train, masks="", **others):
    return nb.Foreground.needs(train, masks)


def requires(model, recipe, **others):
    nb.Foreground.requires(model)


def passes(model, train, recipe, masks="", **others):
    """The attention's gradient, which goes back before the loss does, and a pass for each mask that is cut."""
    return nb.FitPasses(1 + nb.Foreground.cuts(train, masks), backwards=1)


@nb.method(
    title="RobustViT",
    citation="Chefer et al. 2022, arXiv:2206.01161",
    order=74,
    needs=needs,
    passes=passes,
    requires=requires,
)
def robustvit(
    model,
    train,
    recipe,
    *,
    background: float = 2.0,
    foreground: float = 0.3,
    relevance: float = 0.8,
    confidence: float = 0.2,
    temperature: float = 1.0,
    masks: str = "",
    **run,
):
    """Drives the relevance of the patches for the true class out of the background and onto the foreground, and keeps the
    model's own predictions confident. Labels are used for nothing else.

    Loss: relevance x (background x mean square of the relevance outside the mask + foreground x mean square of what
    it lacks inside) + confidence x cross-entropy(logits / temperature, own prediction). The weights are the authors' for
    all their models; temperatures below 1 are theirs for DeiT. Their learning rate for a ViT-B, 3e-6, is below the shared
    recipe's 1e-5, and their 1,500 images are seen 68 times as often as here.

    `masks`: "source" (shapes10 knows its own; a folder of the data config), "model" (a normalised cut of the checkpoint's
    own features, as TokenCut), or what is there, in this order. A mask takes part in crop, flip, the turns and shifts of
    RandAugment, and in mixup and CutMix; erased pixels keep theirs. The recipe's drop path is off, since it would make
    the relevance noise.
    """
    objects = nb.Foreground.open(masks, model, train, run.get("progress"))
    weights = {"background": relevance * background, "foreground": relevance * foreground, "confidence": confidence}

    def losses(model, images, targets, criterion, masks=None):
        terms = objects.losses(model, images, targets, masks, temperature=temperature)
        return {name: weights[name] * term for name, term in terms.items()}

    return nb.finetune(model, train, recipe, losses=losses, facts=objects.facts, masks=objects.given, **run)
