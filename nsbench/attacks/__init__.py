"""Attacks: pure functions with one signature, in the registry under their own names.

    attack(model, images_BCHW, labels_B, *, ids, seed, threat, **params) -> adversarial images_BCHW

`model` maps images in [0, 1] to logits (B, K) and is in eval mode; what comes back is detached float32 in
[0, 1] and inside the threat model. Every image is attacked on its own: losses are summed, never averaged, over
the batch, an image that is decided leaves, and every draw comes from (seed, attack, image id). So neither the
batch nor the order changes an outcome.

An attack that takes `batch_size` is given several batches' worth of images at once. It sends at most `batch_size` of
them through the model at a time; when one leaves, the next takes its place, so that the batch stays full.
Importing this package fills `nsbench.registry.attacks`.
"""

from nsbench.attacks.apgd import apgd
from nsbench.attacks.autoattack import autoattack
from nsbench.attacks.cw import cw
from nsbench.attacks.cw_search import cw_search
from nsbench.attacks.fab import fab
from nsbench.attacks.fgsm import fgsm
from nsbench.attacks.mifgsm import mifgsm
from nsbench.attacks.patch import patch
from nsbench.attacks.patchfool import patchfool
from nsbench.attacks.pgd import pgd
from nsbench.attacks.square import square
from nsbench.attacks.stadv import stadv

__all__ = [
    "apgd",
    "autoattack",
    "cw",
    "cw_search",
    "fab",
    "fgsm",
    "mifgsm",
    "patch",
    "patchfool",
    "pgd",
    "square",
    "stadv",
]
