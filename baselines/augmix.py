"""AugMix: the same prediction for a picture and for two mixtures of it with chains of operations."""

import nsbench as nb


@nb.method(
    title="AugMix", citation="Hendrycks et al. 2020, arXiv:1912.02781", order=64, passes=nb.FitPasses(3, trained=3)
)
def augmix(
    model, train, recipe, *, weight: float = 12.0, severity: float = 1.0, width: int = 3, depth: int = -1, **run
):
    """Trains with cross-entropy(clean) + 12 x the Jensen-Shannon divergence of the predictions for the clean picture
    and two AugMix views of it.

    Settings of the authors' ImageNet script: severity 1 of 10, three chains of one to three operations, none of which
    ImageNet-C has. The recipe's RandAugment, colour jitter, mixup and cutmix are left out, since the first view is
    clean and all three show one image; random erasing spares the first. Three passes a step; what the operations take
    is in the seconds, not in the cost."""
    mixed = nb.mixed_chains(severity=severity, width=width, depth=depth)

    def losses(model, views, targets, criterion):
        logits = [model(view) for view in views.unbind(dim=1)]
        return {"clean": criterion(logits[0], targets), "js": weight * nb.jensen_shannon(logits)}

    others = {"randaugment": "", "color_jitter": 0.0, "mixup": 0.0, "cutmix": 0.0}
    views = nb.Views(pictures=(mixed, mixed))
    return nb.finetune(model, train, recipe, losses=losses, views=views, augmentation=others, **run)
