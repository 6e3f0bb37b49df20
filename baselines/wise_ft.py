"""WiSE-FT: half way between the checkpoint and what a training made of it."""

import nsbench as nb


def passes(model, train, recipe, chained=False, **others):
    return nb.FitPasses(0, trained=0) if chained else nb.FitPasses()


@nb.method(title="WiSE-FT", citation="arXiv:2109.01903", order=24, passes=passes)
def wise_ft(model, train, recipe, *, start=None, alpha: float = 0.5, **run):
    """Weights half way (alpha) between the checkpoint and its finetuned model; as a part of a chain, such as
    ns+wise_ft, between the checkpoint that the chain started from and the model before it, without a training.

    theta = (1 - alpha) start + alpha fitted over all entries of the state. Wortsman et al. 2022 recommend 0.5 where no
    target data may be looked at; alpha is never chosen on the test sets.
    """
    between = nb.interpolation(alpha)
    if start is None or start is model:
        trained = nb.finetune(model, train, recipe, **run)
        return nb.Trained(between(model, trained.model), trained.history)
    return between(start, model)
