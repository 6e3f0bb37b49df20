"""NS finetuning: make the model more tolerant of its own approximate nullspace, so that the nullspace grows."""

import nsbench as nb


@nb.method(title="NS", citation="arXiv:2403.10476, Algorithm 1", order=30)
def ns(model, train, recipe, *, progress, workers=0):
    """Each round learns one universal noise on the patch tokens until the mean MSE probability is below epsilon,
    then trains with loss(clean) + loss(noisy)."""

    def perturb(model, images, round):
        return nb.learn_noise(model, images, epsilon=recipe.epsilon, lr=recipe.noise_lr, limit=recipe.noise_limit,
                              max_steps=recipe.noise_max_steps, loss=recipe.noise_loss, batch_size=recipe.noise_batch,
                              seed=recipe.seed, round=round)

    return nb.finetune(model, train, recipe, perturb=perturb, progress=progress, workers=workers)
