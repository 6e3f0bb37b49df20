"""Chains of operations on pictures, mixed with the picture, and the divergence of what is predicted of such views.

Hendrycks et al. 2020, arXiv 1912.02781. timm's implementation, with the operations and settings of the authors'
script for ImageNet (google-research/augmix, imagenet.py): operations that ImageNet-C has too are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from PIL import Image
from timm.data.auto_augment import AugMixAugment, augmix_ops
from torch.nn.functional import kl_div, softmax

from nsbench.errors import UsageError
from nsbench.training.augment import at_every_strength
from nsbench.training.views import PictureView

OPERATIONS = [  # without color, contrast, brightness and sharpness
    "AutoContrast",
    "Equalize",
    "PosterizeIncreasing",
    "Rotate",
    "SolarizeIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
]


def mixed_chains(*, severity: float = 1.0, width: int = 3, depth: int = -1) -> PictureView:
    """(1 - m) x picture + m x sum of w_i x chain_i(picture), m ~ Beta(1, 1), w ~ Dirichlet(1, ..., 1), i = 1 to `width`.

    A chain is `depth` operations one after the other, or one to three where depth is -1, each at a strength that is
    uniform up to `severity` of 10. What comes in from outside of the picture is black.
    """
    if not 0 < severity <= 10:
        raise UsageError(f"severity {severity:g}: is the strength of operations, above 0 and at most 10")
    if width < 1 or (depth < 1 and depth != -1):
        raise UsageError(f"width {width}, depth {depth}: need a width of at least 1, and a depth of at least 1 or -1")
    settings = {
        "magnitude_std": float("inf"),  # uniform from 0 to the magnitude
        "translate_pct": 1 / 3,
        "img_mean": (0, 0, 0),
        "interpolation": Image.Resampling.BILINEAR,
    }
    operations = at_every_strength(augmix_ops(severity, settings, OPERATIONS))
    return cast(PictureView, AugMixAugment(operations, alpha=1.0, width=width, depth=depth))


def jensen_shannon(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Batch mean of the Jensen-Shannon divergence of V predictions (B, K): the mean of KL(p_v || mean of all p).

    Between 0 and log V. The mean is clamped to 1e-7 and more before the logarithm, as in the authors' script.
    """
    chances_VBK = torch.stack([softmax(one, dim=1) for one in logits])
    log_mean_BK = chances_VBK.mean(dim=0).clamp(1e-7, 1).log()
    return torch.stack([kl_div(log_mean_BK, one, reduction="batchmean") for one in chances_VBK]).mean()
