"""The shape of the approximate nullspace (arXiv 2403.10476, appendix D, figure 5): scaling and convex combinations.

The exact nullspace is a vector space. The approximate one is not, but close to one: within a range of coefficients the
MSE probability of alpha v and of a v_i + b v_j stays below epsilon.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch

from nsbench.errors import UsageError
from nsbench.nullspace.probe import Probe


def scaling(probe: Probe, noises: Sequence[torch.Tensor], alphas: Sequence[float]) -> np.ndarray:
    """MSE probability (n, A) of each of n noises (1, N, D) at each of A scales."""
    return np.array([[probe.influence(alpha * noise_1ND).mse_probability for alpha in alphas] for noise_1ND in noises])


def combination_grid(
    probe: Probe, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], coefficients: Sequence[float]
) -> np.ndarray:
    """Mean MSE probability (A, A) of a v_i + b v_j over pairs: b goes down the rows, a along the columns."""
    if not pairs:
        raise UsageError("combinations need at least two noises")
    return np.array(
        [
            [
                np.mean([probe.influence(a * first + b * second).mse_probability for first, second in pairs])
                for a in coefficients
            ]
            for b in coefficients
        ]
    )


def pairs_of(noises: Sequence[torch.Tensor], most: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The first `most` pairs of different noises."""
    return list(combinations(noises, 2))[:most]


def convex_line(grid_AA: np.ndarray, coefficients: Sequence[float]) -> list[tuple[float, float]]:
    """(a, MSE probability) along a + b = 1, 0 <= a <= 1, read off the grid where both coefficients are on it."""
    places = {round(value, 9): index for index, value in enumerate(coefficients)}
    return [
        (float(a), float(grid_AA[places[b], index]))
        for index, a in enumerate(coefficients)
        if 0 <= a <= 1 and (b := round(1 - a, 9)) in places
    ]
