"""Adversarial training: the images of every step are replaced by the worst ones nearby."""

import nsbench as nb


@nb.method(title="Madry", citation="arXiv:1706.06083", order=40)
def madry(model, train, recipe, **run):
    """Trains on l-infinity PGD images (torchattacks, random start, attacked in evaluation mode): 8/255 in 10 steps of
    2/255 unless the recipe says otherwise."""
    import torchattacks

    def losses(model, images, targets, criterion):
        attack = torchattacks.PGD(model, eps=recipe.attack_eps, alpha=recipe.attack_step_size,
                                  steps=recipe.attack_steps)
        images = images.clamp(0, 1)  # random erasing puts normal noise there, and an attack keeps to images
        with nb.frozen(model):
            adversarial = attack(images, targets)
        clean = {"clean": criterion(model(images), targets)} if recipe.madry_loss == "clean+adversarial" else {}
        return clean | {"adversarial": criterion(model(adversarial), targets)}

    return nb.finetune(model, train, recipe, losses=losses, **run)
