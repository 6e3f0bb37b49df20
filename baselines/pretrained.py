import nsbench as nb


@nb.method(title="pretrained", citation="the checkpoint itself", role="untouched", order=10, trains=False)
def pretrained(model, train, recipe, **run):
    """The checkpoint as it is, without any training."""
    return model
