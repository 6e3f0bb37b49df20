"""What NS is compared with in the paper's ablation: noise of the same influence that nobody learnt."""

import nsbench as nb


def passes(model, train, recipe, **others):
    return nb.scaled_noise_passes(recipe)


def requires(model, recipe, layer="0", **others):
    nb.noisy_at(model, layer, recipe)


@nb.method(title="random noise", citation="arXiv:2403.10476, section 5.3", order=25, passes=passes, requires=requires)
def random_noise(model, train, recipe, *, layer: str = "0", **run):
    """Each round draws normal noise on the patch tokens, shrinks it until the mean MSE probability is below epsilon,
    then trains with loss(clean) + loss(noisy)."""

    def perturb(model, images, round):
        return nb.scale_noise(
            model,
            images.batches,
            held_out=images.stop,
            epsilon=recipe.epsilon,
            shrink=recipe.noise_shrink,
            seed=recipe.seed,
            round=round,
        )

    return nb.finetune(model, train, recipe, perturb=perturb, layer=layer, **run)
