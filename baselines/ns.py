"""NS finetuning: make the model more tolerant of its own approximate nullspace, so that the nullspace grows."""

import nsbench as nb


def passes(model, train, recipe, **others):
    return nb.learnt_noise_passes(recipe)


def requires(model, recipe, layer="0", **others):
    nb.noisy_at(model, layer, recipe)


@nb.method(
    title="NS", citation="arXiv:2403.10476, Algorithm 1", role="subject", order=30, passes=passes, requires=requires
)
def ns(model, train, recipe, *, layer: str = "0", **run):
    """Each round learns one universal noise on the patch tokens until the mean MSE probability is below epsilon,
    then trains with loss(clean) + loss(noisy).

    With `layer` the noise is added to what block `layer` gives, class token and all, or to the pixels ("input"), as a CNN
    needs it; the recipe's limit, where it starts, is that of patch tokens, and pixels are not kept in [0, 1].
    """

    def perturb(model, images, round):
        return nb.learn_noise(
            model,
            images.batches,
            held_out=images.stop,
            epsilon=recipe.epsilon,
            lr=recipe.noise_lr,
            limit=recipe.noise_limit,
            max_steps=recipe.noise_max_steps,
            loss=recipe.noise_loss,
            weight_decay=recipe.noise_weight_decay,
            seed=recipe.seed,
            round=round,
            watch=images.watch,
            start=images.start,
        )

    return nb.finetune(model, train, recipe, perturb=perturb, layer=layer, **run)
