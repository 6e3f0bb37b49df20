"""SAM: weights whose whole neighbourhood has a low loss."""

import nsbench as nb


@nb.method(
    title="SAM", citation="arXiv:2010.01412; for ViTs: arXiv:2106.01548", order=72, passes=nb.FitPasses(2, trained=2)
)
def sam(model, train, recipe, *, rho: float = 0.2, **run):
    """Trains with the gradient at the worst weights within a distance rho of the present ones; two passes a step.

    The distance is over all parameters as one vector, and the ascent follows the gradient of the step's whole batch
    (not of a part of it, as on the authors' many devices). Both passes have the same images, mixes and dropped paths.
    0.2 is what Chen et al. 2022 use for a ViT-B/16, by two sources that quote them, who train from scratch; nothing is
    published for finetuning at a learning rate of 1e-5. Foret et al. have 0.05 as the default.
    """
    return nb.finetune(model, train, recipe, ascent=rho, **run)
