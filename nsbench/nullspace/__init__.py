"""Nullspace noise: what can be added to an image or its tokens without changing the predictions (arXiv 2403.10476)."""

from nsbench.nullspace.approximate import LOSSES, LearntNoise, learn_noise, mse_probability, noise_influence
from nsbench.nullspace.attention_conditions import attention_conditions
from nsbench.nullspace.disguise import disguise
from nsbench.nullspace.exact import (
    PatchNullspace,
    PatchSpectrum,
    from_patches,
    patch_nullspace,
    patch_projection,
    patch_spectrum,
    to_patches,
)
from nsbench.nullspace.exploratory import explore_noise
from nsbench.nullspace.fingerprint import make_fingerprint, verify
from nsbench.nullspace.geometry import combination_grid, convex_line, scaling
from nsbench.nullspace.layers import at_layer
from nsbench.nullspace.least_squares import edit
from nsbench.nullspace.probe import Influence, Probe, permuted, random_direction, scaled_to_influence
from nsbench.nullspace.random_noise import scale_noise
from nsbench.nullspace.saliency import saliency
from nsbench.nullspace.watermark import picture_mark, text_mark, watermark

__all__ = [
    "LOSSES",
    "Influence",
    "LearntNoise",
    "PatchNullspace",
    "PatchSpectrum",
    "Probe",
    "at_layer",
    "attention_conditions",
    "combination_grid",
    "convex_line",
    "disguise",
    "edit",
    "explore_noise",
    "from_patches",
    "learn_noise",
    "make_fingerprint",
    "mse_probability",
    "noise_influence",
    "patch_nullspace",
    "patch_projection",
    "patch_spectrum",
    "permuted",
    "picture_mark",
    "random_direction",
    "saliency",
    "scale_noise",
    "scaled_to_influence",
    "scaling",
    "text_mark",
    "to_patches",
    "verify",
    "watermark",
]
