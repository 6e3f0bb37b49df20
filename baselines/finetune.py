import nsbench as nb


@nb.method(
    title="finetune (control)",
    citation="matched control of arXiv:2403.10476",
    role="control",
    order=20,
    passes=nb.FitPasses(),
)
def finetune(model, train, recipe, **run):
    """The matched control of NS: the same recipe, steps, images and augmentation, without noise."""
    return nb.finetune(model, train, recipe, **run)
