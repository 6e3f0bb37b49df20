"""Adversarial training: the images of every step are replaced by the worst ones nearby."""

from typing import Literal

import nsbench as nb


def passes(model, train, recipe, attack="pgd", **others):
    """The attack's steps (APGD looks at the start, too), and one image or two to train on."""
    steps = recipe.attack_steps + (attack == "apgd")
    trained = 2 if recipe.madry_loss == "clean+adversarial" else 1
    return nb.FitPasses(steps + trained, backwards=steps, trained=trained)


@nb.method(title="Madry", citation="arXiv:1706.06083", order=40, passes=passes)
def madry(model, train, recipe, *, attack: Literal["pgd", "apgd"] = "pgd", eps_warmup: float = 0.0, **run):
    """Trains on l-infinity PGD images (torchattacks, random start, attacked in evaluation mode): 8/255 in 10 steps of
    2/255 unless the recipe says otherwise.

    `attack` "apgd" makes the images by APGD, in as many steps, whose size it chooses itself. With `eps_warmup` the budget
    grows linearly from 0 over that share of the steps; both are what training ViTs against attacks from the start
    needs (arXiv:2209.07399, arXiv:2303.01870), and a finetuning may do without.
    """
    adversary = nb.Adversary(recipe, attack, eps_warmup)

    def losses(model, images, targets, criterion, *, done):
        images = images.clamp(0, 1)
        adversarial = adversary(model, images, targets, done)
        clean = {"clean": criterion(model(images), targets)} if recipe.madry_loss == "clean+adversarial" else {}
        return clean | {"adversarial": criterion(model(adversarial), targets)}

    return nb.finetune(model, train, recipe, losses=losses, **run)
