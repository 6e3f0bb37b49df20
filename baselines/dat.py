"""Discrete adversarial training: the worst picture nearby among those that a codebook can express."""

import nsbench as nb


def needs(train, discretiser="", **others):
    return nb.Discretiser.needs(train, discretiser)


def passes(model, train, recipe, discretiser="", **others):
    """Two passes of Q, one step of the attack, and two images to train on."""
    quantising = 2 * nb.Discretiser.passes_of(discretiser, model, train)
    return nb.FitPasses(quantising + 1 + 2, backwards=1, trained=2)


@nb.method(title="DAT", citation="Mao et al. 2022, arXiv:2209.07735", order=76, needs=needs, passes=passes)
def dat(
    model,
    train,
    recipe,
    *,
    discretiser: str = "",
    radius: float = 0.1,
    random_start: float = 0.8,
    straight_through: bool = True,
    ema: float = 0.96,
    **run,
):
    """Trains with loss(clean) + loss(discrete): images are moved by one l2 step against the model and then replaced by what
    a vector-quantised autoencoder keeps of them. The averaged weights are given back.

    One step of `radius` at Q(x), with probability `random_start` of a batch from a random point of that length, in
    training mode, as in the authors' code. The paper copies the step straight through to x, Q(x + step), and so does
    this; `straight_through=False` is the authors' code, Q(Q(x) + step). The radius is that of 224 x 224 pixels and is
    not scaled to smaller images. Random draws are made for a batch, or for each part of it with `micro_batch`.

    `discretiser`: what comes with the data source, the folder or owner/name of a diffusers VQModel, or "shapes10".

    `ema`: the authors' 0.99992 over 375,000 steps has a half-life of 2.3 % of the training. Over 800 steps it would leave
    94 % of the checkpoint; 0.96 has a half-life of 17 steps, as large a share of 800. A decay of the recipe's own goes
    first, and 0 gives the last weights.
    """
    quantise = nb.Discretiser.open(discretiser, model, train, run.get("progress"))

    def losses(model, images, targets, criterion):
        discrete = quantise.adversarial(
            model,
            images,
            targets,
            criterion,
            radius=radius,
            random_start=random_start,
            straight_through=straight_through,
        )
        return {"clean": criterion(model(images), targets), "discrete": criterion(model(discrete), targets)}

    averaged = recipe.model_copy(update={"ema": recipe.ema or ema})
    return nb.finetune(model, train, averaged, losses=losses, facts=quantise.facts, **run)
