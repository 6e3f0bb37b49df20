"""TRADES: accuracy on the images, and the same prediction on the worst ones nearby."""

import nsbench as nb


def passes(model, train, recipe, **others):
    """The prediction that the attack leads away from, its steps, and two images to train on."""
    return nb.FitPasses(1 + recipe.attack_steps + 2, backwards=recipe.attack_steps, trained=2)


@nb.method(title="TRADES", citation="arXiv:1901.08573", order=50, passes=passes)
def trades(model, train, recipe, *, eps_warmup: float = 0.0, **run):
    """Trains with cross-entropy(clean) + beta x KL(clean || adversarial); the adversarial images maximise that KL
    (torchattacks TPGD, l-infinity, attacked in evaluation mode)."""
    adversary = nb.Adversary(recipe, eps_warmup=eps_warmup)

    def losses(model, images, targets, criterion, *, done):
        images = images.clamp(0, 1)
        adversarial = adversary(model, images, None, done)
        clean = model(images)
        return {"clean": criterion(clean, targets), "kl": recipe.trades_beta * nb.divergence(clean, model(adversarial))}

    return nb.finetune(model, train, recipe, losses=losses, **run)
