"""The null noise nearest to a wanted change of an image: least squares in the nullspace (arXiv 2403.10476, eq. 12).

Unbounded, this is the orthogonal projection: the coefficients of an orthonormal basis have a closed form. Bounded, the
pixels of the edited image must stay in [0, 1]:

    minimise |v - wanted|^2  subject to  v in the nullspace,  low <= v <= high,

a convex problem of each patch by itself, solved by ADMM with over-relaxation (Boyd et al. 2011, sections 3.4.3 and 5).
Clipping the unbounded solution would leave the nullspace instead. Shapes: B images, N patches, P patch length, R rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nsbench.errors import UsageError
from nsbench.nullspace.exact import PatchNullspace, from_patches, to_patches

BOUND_TOLERANCE = 2.5e-4  # pixels may miss their bounds by this before they are clipped: 1/16 of an 8-bit step
ITERATIONS = 300
PENALTY, RELAXATION = 30.0, 1.6  # of ADMM: they move the speed, not the solution


def edit(nullspace: PatchNullspace, images_BCHW: Tensor, wanted_BCHW: Tensor, *, bounded: bool = True) -> Tensor:
    """Images (B, C, H, W) that come as near as the nullspace allows to `wanted_BCHW`; all in pixel units.

    `bounded` keeps every pixel in [0, 1]. Raises UsageError for images that are not in [0, 1] or not of one shape.
    """
    if wanted_BCHW.shape[1:] != images_BCHW.shape[1:]:
        raise UsageError(
            f"images of shape {tuple(images_BCHW.shape)} cannot become images of shape "
            f"{tuple(wanted_BCHW.shape)}; bring both to the model's input size"
        )
    change_BCHW = wanted_BCHW - images_BCHW
    if not bounded:
        return images_BCHW + nullspace.project(change_BCHW)
    if images_BCHW.min() < 0 or images_BCHW.max() > 1:
        raise UsageError("images have pixels outside [0, 1]; the bounded solution starts from valid images")
    noise_BCHW = project_bounded(row_space(nullspace), nullspace.patch_size, change_BCHW, -images_BCHW, 1 - images_BCHW)
    return (images_BCHW + noise_BCHW).clamp(0, 1)  # float rounding may have left 1e-8 too much


def project_bounded(row_PR: Tensor, size: int, wanted_BCHW: Tensor, low_BCHW: Tensor, high_BCHW: Tensor) -> Tensor:
    """The noise (B, C, H, W) inside [low, high] nearest to `wanted`, null up to BOUND_TOLERANCE, pixel units.

    Null is what is orthogonal to `row_PR` (see `row_space`) in every patch of `size` x `size` pixels. The bounds must
    allow 0, so that a solution exists. It stops as soon as no pixel misses its bounds by more than
    BOUND_TOLERANCE, or moves by a fifth of it, or after ITERATIONS, and clips what is left: `PatchNullspace.leak` tells
    what that costs.
    """
    if (low_BCHW > 0).any() or (high_BCHW < 0).any():
        raise UsageError("bounds of a null noise must allow 0")
    wanted, low, high = (to_patches(part, size) for part in (wanted_BCHW, low_BCHW, high_BCHW))
    row_PR = row_PR.to(wanted)
    nearest = _null(wanted, row_PR)  # the solution wherever the bounds do not matter
    outside_BN = (nearest - torch.clamp(nearest, low, high)).abs().amax(dim=2) > BOUND_TOLERANCE
    if outside_BN.any():
        nearest[outside_BN] = _admm(wanted[outside_BN], low[outside_BN], high[outside_BN], row_PR)
    return from_patches(torch.clamp(nearest, low, high), size, (wanted_BCHW.shape[2], wanted_BCHW.shape[3]))


def _admm(wanted: Tensor, low: Tensor, high: Tensor, row_PR: Tensor) -> Tensor:
    """Null patches (M, P) that come as near to `wanted` as the bounds allow; they may miss the bounds a little."""
    inside, dual = torch.clamp(_null(wanted, row_PR), low, high), torch.zeros_like(wanted)
    for _ in range(ITERATIONS):
        null = _null(torch.lerp(wanted, inside - dual, PENALTY / (1 + PENALTY)), row_PR)
        ahead = torch.lerp(inside, null, RELAXATION) + dual
        before, inside = inside, torch.clamp(ahead, low, high)
        dual = ahead - inside
        if max(_gap(null, torch.clamp(null, low, high)), 5 * _gap(inside, before)) < BOUND_TOLERANCE:
            break
    return null


def row_space(nullspace: PatchNullspace) -> Tensor:
    """Orthonormal basis (P, R) of what the patch embedding sees, in pixel units: the complement of the nullspace."""
    basis_PK = nullspace.pixel_basis_PK
    all_PP: Tensor = torch.linalg.qr(basis_PK, mode="complete").Q
    return all_PP[:, basis_PK.shape[1] :]


def _null(patches: Tensor, row_PR: Tensor) -> Tensor:
    return patches - (patches @ row_PR) @ row_PR.T


def _gap(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())
