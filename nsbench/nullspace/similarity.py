"""How alike two images, or two saliency maps, are. Images (3, H, W) in [0, 1]; maps (h, w) of any scale."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor


def psnr(first_3HW: Tensor, second_3HW: Tensor) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1; infinite for equal images."""
    error = float((first_3HW.double() - second_3HW.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(first_3HW: Tensor, second_3HW: Tensor) -> float:
    """Structural similarity (Wang et al. 2004: Gaussian window, sigma 1.5), mean over the image and the channels."""
    from skimage.metrics import structural_similarity

    first, second = (part.detach().double().cpu().numpy() for part in (first_3HW, second_3HW))
    return float(
        structural_similarity(  # type: ignore[no-untyped-call]  # scikit-image has no types here
            first, second, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def correlation(first_hw: Tensor, second_hw: Tensor) -> float:
    """Pearson's correlation of two maps, in [-1, 1]; NaN where one of them is constant."""
    first, second = _flat(first_hw), _flat(second_hw)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def rank_correlation(first_hw: Tensor, second_hw: Tensor) -> float:
    """Spearman's rank correlation of two maps, in [-1, 1]; NaN where one of them is constant."""
    from scipy.stats import rankdata

    first, second = rankdata(_flat(first_hw)), rankdata(_flat(second_hw))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _flat(map_hw: Tensor) -> np.ndarray:
    return map_hw.detach().double().cpu().numpy().ravel()
