"""MixUp: training on weighted means of two images, with the same means of their labels."""

import nsbench as nb


@nb.method(title="MixUp", citation="Zhang et al. 2018, arXiv:1710.09412", order=60, passes=nb.FitPasses())
def mixup(model, train, recipe, *, alpha: float = 0.8, **run):
    """Finetuning on mixtures of two images of a batch and of their labels, weighted by Beta(alpha, alpha).

    The published row states no alpha that can be checked; 0.8 is DeiT's and the recipe `paper`'s. timm's: one weight a
    batch, the partner is the batch in reverse order, and labels that the recipe smooths are smoothed once, before.
    Where the recipe has CutMix, each batch draws one of the two. A recipe with this mixup makes it the control."""
    return nb.finetune(model, train, recipe, augmentation={"mixup": alpha}, **run)
