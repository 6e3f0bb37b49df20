"""LP-FT: the head first, so that finetuning does not bend features to fit a head that is wrong."""

import nsbench as nb


def passes(model, train, recipe, share=0.25, lr=1e-3, **others):
    return nb.FitPasses(head_alone=nb.Probe(share, lr).of(recipe.rounds))


def requires(model, recipe, share=0.25, lr=1e-3, **others):
    nb.Probe(share, lr).head_of(model)


@nb.method(title="LP-FT", citation="arXiv:2202.10054", order=22, passes=passes, requires=requires)
def lp_ft(model, train, recipe, *, share: float = 0.25, lr: float = 1e-3, **run):
    """Trains the head alone for the first quarter of the steps (share), then everything; as many steps as the others.

    Kumar et al. 2022 fit the head to convergence, and finetune in a training of its own; here both parts share the
    recipe's steps, images and augmentation, and the second goes on where the recipe's schedule stands. The head's
    learning rate is constant and ours. The first part does its work for a head that is new; the head of a checkpoint
    that was trained on the same classes is at rest already, so that it changes nearly nothing, and the row is a
    finetuning with fewer steps.
    """
    return nb.finetune(model, train, recipe, probe=nb.Probe(share, lr), **run)
