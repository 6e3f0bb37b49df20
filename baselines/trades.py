"""TRADES: accuracy on the images, and the same prediction on the worst ones nearby."""

import nsbench as nb


@nb.method(title="TRADES", citation="arXiv:1901.08573", order=50)
def trades(model, train, recipe, **run):
    """Trains with cross-entropy(clean) + beta x KL(clean || adversarial); the adversarial images maximise that KL
    (torchattacks TPGD, l-infinity, attacked in evaluation mode)."""
    import torchattacks
    from torch.nn.functional import kl_div, log_softmax, softmax

    def losses(model, images, targets, criterion):
        attack = torchattacks.TPGD(model, eps=recipe.attack_eps, alpha=recipe.attack_step_size,
                                   steps=recipe.attack_steps)
        images = images.clamp(0, 1)  # random erasing puts normal noise there, and an attack keeps to images
        with nb.frozen(model):
            adversarial = attack(images)
        clean = model(images)
        divergence = kl_div(log_softmax(model(adversarial), dim=1), softmax(clean, dim=1), reduction="batchmean")
        return {"clean": criterion(clean, targets), "kl": recipe.trades_beta * divergence}

    return nb.finetune(model, train, recipe, losses=losses, **run)
