"""Adversarial training: the images of every step are replaced by the worst ones nearby."""

import nsbench as nb


@nb.method(title="Madry", citation="arXiv:1706.06083", order=40)
def madry(model, train, recipe, **run):
    """Trains on l-infinity PGD images (torchattacks, random start, attacked in evaluation mode): 8/255 in 10 steps of
    2/255 unless the recipe says otherwise."""

    def losses(model, images, targets, criterion):
        images = images.clamp(0, 1)
        adversarial = nb.adversarial(model, images, targets, recipe)
        clean = {"clean": criterion(model(images), targets)} if recipe.madry_loss == "clean+adversarial" else {}
        return clean | {"adversarial": criterion(model(adversarial), targets)}

    return nb.finetune(model, train, recipe, losses=losses, **run)
