"""Nullspace noise: what can be added after the patch embedding without changing the predictions (arXiv 2403.10476)."""

from nsbench.nullspace.approximate import LOSSES, LearntNoise, learn_noise, mse_probability, noise_influence
from nsbench.nullspace.exact import (
    PatchNullspace,
    PatchSpectrum,
    from_patches,
    patch_nullspace,
    patch_projection,
    patch_spectrum,
    to_patches,
)
from nsbench.nullspace.random_noise import scale_noise

__all__ = ["LOSSES", "LearntNoise", "PatchNullspace", "PatchSpectrum", "from_patches", "learn_noise",
           "mse_probability", "noise_influence", "patch_nullspace", "patch_projection", "patch_spectrum", "scale_noise",
           "to_patches"]
