"""Blurs of batches of torch tensors: defocus, gaussian, glass, motion and zoom. See `tensors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from nsbench.corruptions import glass, settings
from nsbench.corruptions.tensor_draws import TensorDraws


def defocus_blur(images_BCHW: torch.Tensor, setting: tuple[Any, ...], draws: TensorDraws) -> torch.Tensor:
    disk = settings.disk(*setting)
    reach = disk.shape[0] // 2
    padded = F.pad(precise(images_BCHW), (reach,) * 4, mode="reflect")
    return filtered(padded, torch.from_numpy(disk))


def gaussian_blur(images_BCHW: torch.Tensor, setting: float, draws: TensorDraws) -> torch.Tensor:
    return _smoothed(images_BCHW, setting)


def filtered(planes: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Every plane of (B, C, H, W) correlated with (h, w) weights, without padding."""
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    made = F.conv2d(flat, weights.to(planes)[None, None])
    return made.reshape(*planes.shape[:-2], *made.shape[-2:])


def precise(values: torch.Tensor) -> torch.Tensor:
    """Float32, but float64 on a GPU, where convolutions of float32 may run at reduced precision (TF32)."""
    return values.double() if values.is_cuda else values.float()


def _smoothed(images_BCHW: torch.Tensor, sigma: float) -> torch.Tensor:
    weights = torch.from_numpy(settings.gaussian_weights(sigma))
    padded = F.pad(precise(images_BCHW), (len(weights) // 2,) * 4, mode="replicate")
    return filtered(filtered(padded, weights[:, None]), weights[None])


def glass_blur(images_BCHW: torch.Tensor, setting: tuple[Any, ...], draws: TensorDraws) -> torch.Tensor:
    sigma, reach, rounds = setting
    height, width = images_BCHW.shape[2:]
    visited, step_of = (torch.from_numpy(part).to(images_BCHW.device) for part in glass.walk(height, width, reach))
    pixels_BCN = _smoothed_as_scipy(images_BCHW, sigma).clamp(0, 255).floor().flatten(2)
    for _ in range(rounds):
        shifts = draws.integers(-reach, reach, (len(visited), 2))
        pixels_BCN[:, :, visited] = _shuffled(pixels_BCN, visited, step_of, shifts[..., 1] * width + shifts[..., 0])
    return _smoothed_as_scipy(pixels_BCN.reshape(images_BCHW.shape), sigma)


def _smoothed_as_scipy(levels_BCHW: torch.Tensor, sigma: float) -> torch.Tensor:
    """Float64 sums in scipy's order: in flat areas the rounding error decides what glass_blur cuts off, twice."""
    values = levels_BCHW.double() / 255
    weights = settings.gaussian_weights(sigma).tolist()
    radius = len(weights) // 2
    for axis in (2, 3):
        size = values.shape[axis]
        padding = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        padded = F.pad(values, padding, mode="replicate")
        values = values * weights[radius]
        for k in range(radius):
            values = values + (padded.narrow(axis, k, size) + padded.narrow(axis, 2 * radius - k, size)) * weights[k]
    return values * 255


def _shuffled(
    pixels_BCN: torch.Tensor,
    visited: torch.Tensor,
    step_of: torch.Tensor,
    shifts: torch.Tensor,
) -> torch.Tensor:
    """What the visited pixels become (B, C, n); see glass.py."""
    neighbour = visited + shifts
    steps = torch.arange(len(visited), device=visited.device)
    earlier = step_of[neighbour]
    follow = torch.where(earlier < steps, earlier, steps)
    while True:
        further = follow.gather(1, follow)
        if torch.equal(further, follow):
            break
        follow = further
    source = neighbour.gather(1, follow)[:, None].expand(-1, pixels_BCN.shape[1], -1)
    return pixels_BCN.gather(2, source)


def motion_blur(images_BCHW: torch.Tensor, setting: tuple[Any, ...], draws: TensorDraws) -> torch.Tensor:
    radius, sigma = setting
    return moved(images_BCHW.float(), radius, sigma, (-45 + 90 * draws.uniform((1,)).double()).flatten().tolist())


def moved(images_BCHW: torch.Tensor, radius: int, sigma: float, angles: Sequence[float]) -> torch.Tensor:
    """One-sided motion blur, each image at its own angle; the edge's value beyond the edge."""
    height, width = images_BCHW.shape[2:]
    device = images_BCHW.device
    paths = np.zeros((2 * radius + 1, len(angles), 3))  # step, image, (dy, dx, weight); weight 0 beyond the image
    for k, angle in enumerate(angles):
        taps = settings.motion(radius, sigma, angle, height, width)
        paths[: len(taps), k] = taps
    dys, dxs = (torch.from_numpy(paths[..., axis]).long().to(device) for axis in (0, 1))
    weights = torch.from_numpy(paths[..., 2]).float().to(device)
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    images = torch.arange(len(angles), device=device)[:, None, None]
    images_BHWC, total = images_BCHW.permute(0, 2, 3, 1), torch.zeros_like(images_BCHW).permute(0, 2, 3, 1)
    for dy, dx, weight in zip(dys, dxs, weights, strict=True):
        rows, columns = (y - dy[:, None]).clamp(0, height - 1), (x - dx[:, None]).clamp(0, width - 1)
        total = total + weight[:, None, None, None] * images_BHWC[images, rows[:, :, None], columns[:, None, :]]
    return total.permute(0, 3, 1, 2)


def zoom_blur(images_BCHW: torch.Tensor, setting: tuple[Any, ...], draws: TensorDraws) -> torch.Tensor:
    images, factors = images_BCHW.float(), settings.zoom_factors(*setting)
    total = images.clone()
    for factor in factors:
        layer = zoomed(images, factor)[..., : images.shape[2], : images.shape[3]]
        total[..., : layer.shape[2], : layer.shape[3]] += layer
    return total / (len(factors) + 1)


def zoomed(images_BCHW: torch.Tensor, factor: float) -> torch.Tensor:
    """scipy.ndimage.zoom(order=1) of the centre."""
    (top, in_rows, rows), (left, in_columns, columns) = (
        settings.zoomed_part(size, factor) for size in images_BCHW.shape[2:]
    )
    part = images_BCHW[..., top : top + in_rows, left : left + in_columns]
    return F.interpolate(part, size=(rows, columns), mode="bilinear", align_corners=True)
