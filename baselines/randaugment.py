"""RandAugment: two random operations on every picture."""

import nsbench as nb


@nb.method(title="RandAugment", citation="Cubuk et al. 2020, arXiv:1909.13719", order=62, passes=nb.FitPasses())
def randaugment(model, train, recipe, *, operations: str = "rand-m9-mstd0.5-inc1", **run):
    """Finetuning on pictures that went through two of RandAugment's 15 operations, each applied with probability 0.5.

    timm's, in its notation: magnitude 9 of 10 with a deviation of 0.5, as in DeiT and the recipe `paper`. The published
    row leaves out operations that ImageNet-C has too, and its list is not published: here all 15 are in. The recipe's
    colour jitter is off beside it. A recipe with this RandAugment makes it the control."""
    return nb.finetune(model, train, recipe, augmentation={"randaugment": operations, "color_jitter": 0.0}, **run)
