"""Our corruptions of batches of torch tensors, on the CPU or a GPU: the images that `fast` makes, within a grey level.

images_BCHW is uint8; the functions return float grey levels, which `corrupt_batch` clips and cuts to uint8. Two
corruptions are made on the CPU, image by image: jpeg_compression needs a JPEG codec, spatter an edge detector and a
distance transform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from nsbench.corruptions import fast, settings
from nsbench.corruptions.digital import stretched
from nsbench.corruptions.tensor_blurs import (
    defocus_blur,
    filtered,
    gaussian_blur,
    glass_blur,
    motion_blur,
    moved,
    precise,
    zoom_blur,
    zoomed,
)
from nsbench.corruptions.tensor_draws import TensorDraws
from nsbench.corruptions.weather import brightened, ice_texture, plasma, plasma_size

ON_CPU = ("jpeg_compression", "spatter")


def corrupt_batch(
    images_BCHW: torch.Tensor, name: str, severity: int, seeds: Sequence[int], scale: str = "imagenet"
) -> torch.Tensor:
    """(B, 3, H, W) uint8 -> the same, on the same device; image i depends on itself and seeds[i] alone.

    The images of 32 x 32 pixels that scale "cifar" is for are made on the CPU.
    """
    if not len(images_BCHW):
        return images_BCHW.clone()
    if name in ON_CPU or scale != "imagenet":
        return _on_cpu(images_BCHW, name, severity, seeds, scale)
    with torch.no_grad():
        setting = settings.IMAGENET[name][severity - 1]
        levels = FUNCTIONS[name](images_BCHW, setting, TensorDraws(seeds, images_BCHW.device))
        return levels.clamp(0, 255).to(torch.uint8)


def _on_cpu(images_BCHW: torch.Tensor, name: str, severity: int, seeds: Sequence[int], scale: str) -> torch.Tensor:
    images_BHWC = images_BCHW.permute(0, 2, 3, 1).cpu().numpy()
    made = [fast.corrupt(image, name, severity, seed, scale) for image, seed in zip(images_BHWC, seeds, strict=True)]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).to(images_BCHW.device)


def gaussian_noise(images_BCHW: torch.Tensor, setting: float, draws: TensorDraws) -> torch.Tensor:
    return images_BCHW + _normal(images_BCHW, draws) * (255 * setting)


def speckle_noise(images_BCHW: torch.Tensor, setting: float, draws: TensorDraws) -> torch.Tensor:
    return images_BCHW * (1 + _normal(images_BCHW, draws) * setting)


def _normal(images_BCHW: torch.Tensor, draws: TensorDraws) -> torch.Tensor:
    """Drawn in the order (H, W, C), as for single images."""
    channels, height, width = images_BCHW.shape[1:]
    return draws.normal((height, width, channels)).permute(0, 3, 1, 2)


def shot_noise(images_BCHW: torch.Tensor, photons: float, draws: TensorDraws) -> torch.Tensor:
    counts = draws.poisson(images_BCHW.permute(0, 2, 3, 1), photons).permute(0, 3, 1, 2)
    return (counts.double() / photons).clamp(max=1) * 255


def impulse_noise(images_BCHW: torch.Tensor, setting: float, draws: TensorDraws) -> torch.Tensor:
    images_BHWC = images_BCHW.permute(0, 2, 3, 1)
    hit, salt = draws.flips(tuple(images_BHWC.shape[1:]), setting)
    return torch.where(hit, salt * 255, images_BHWC.long()).permute(0, 3, 1, 2)


def snow(images_BCHW: torch.Tensor, setting: tuple[float, ...], draws: TensorDraws) -> torch.Tensor:
    mean, deviation, zoom, threshold, radius, sigma, share = setting
    height, width = images_BCHW.shape[2:]
    flakes = zoomed((draws.normal((height, width)) * deviation + mean)[:, None], zoom)
    flakes = torch.where(flakes < threshold, 0, flakes).clamp(0, 1)
    angles = (-135 + 90 * draws.uniform((1,)).double()).flatten().tolist()
    flakes = (moved(flakes, int(radius), sigma, angles)[..., :height, :width] * 255).round()
    images = images_BCHW.float()
    grey = (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    dimmed = share * images + (1 - share) * torch.maximum(images, grey * 1.5 + 127.5)
    return dimmed + flakes + flakes.flip(2, 3)


def frost(images_BCHW: torch.Tensor, setting: tuple[float, ...], draws: TensorDraws) -> torch.Tensor:
    height, width = images_BCHW.shape[2:]
    weight, ice_weight = setting
    parts = []
    for which, down, right in zip(*(draws.words((1,)).flatten().tolist() for _ in range(3)), strict=True):
        ice = ice_texture((which * 5) >> 32, height, width)
        top, left = (down * (ice.shape[0] - height)) >> 32, (right * (ice.shape[1] - width)) >> 32
        parts.append(ice[top : top + height, left : left + width])
    ice_BCHW = torch.from_numpy(np.stack(parts)).to(images_BCHW.device).permute(0, 3, 1, 2)
    return images_BCHW * weight + ice_BCHW * ice_weight + 1e-3  # sums are multiples of 1/20: not cut a level short


def fog(images_BCHW: torch.Tensor, setting: tuple[float, ...], draws: TensorDraws) -> torch.Tensor:
    thickness, decay = setting
    height, width = images_BCHW.shape[2:]
    size = plasma_size(height, width)
    uniform = draws.uniform((size * size - 1,)).double()
    heights = plasma(uniform, size, decay, torch.roll, uniform.new_empty)
    heights = heights - heights.amin((1, 2), keepdim=True)
    clouds = (heights / heights.amax((1, 2), keepdim=True))[:, None, :height, :width]
    brightest = images_BCHW.amax((1, 2, 3), keepdim=True).double() / 255
    return (images_BCHW + 255 * thickness * clouds) * (brightest / (brightest + thickness))


def brightness(images_BCHW: torch.Tensor, setting: float, draws: TensorDraws) -> torch.Tensor:
    table = torch.from_numpy(brightened(setting)).to(images_BCHW.device)
    return table[images_BCHW.amax(1, keepdim=True).long() * 256 + images_BCHW]


def saturate(images_BCHW: torch.Tensor, setting: tuple[Any, ...], draws: TensorDraws) -> torch.Tensor:
    table = torch.from_numpy(stretched(*setting)).to(images_BCHW.device)
    largest, smallest = images_BCHW.amax(1, keepdim=True), images_BCHW.amin(1, keepdim=True)
    value = largest.float()
    made = value - (value - images_BCHW) * table[largest.long() * 256 + smallest]
    kept = 1 - setting[1]  # grey has no hue; HSV calls it red
    return torch.where(largest == smallest, value * value.new_tensor([1, kept, kept])[:, None, None], made)


def contrast(images_BCHW: torch.Tensor, setting: float, draws: TensorDraws) -> torch.Tensor:
    values = images_BCHW.double() / 255
    means = values.mean((2, 3), keepdim=True)
    return ((values - means) * setting + means) * 255


def elastic_transform(images_BCHW: torch.Tensor, setting: float, draws: TensorDraws) -> torch.Tensor:
    height, width = images_BCHW.shape[2:]
    shift_x, shift_y = (_displacement(draws.uniform((height, width)), setting) for _ in range(2))
    y = torch.arange(height, device=images_BCHW.device)[:, None] + shift_y
    x = torch.arange(width, device=images_BCHW.device) + shift_x
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    images = images_BCHW.to(grid)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _displacement(uniform_BHW: torch.Tensor, factor: float) -> torch.Tensor:
    height, width = uniform_BHW.shape[1:]
    down, across = (settings.gaussian_weights(0.01 * size, truncate=3) for size in (height, width))
    noise = precise(2 * uniform_BHW - 1) * (0.005 * height * factor)
    rows, columns = (_mirrored(size, len(w) // 2).to(noise.device) for size, w in ((height, down), (width, across)))
    padded = noise[:, rows][:, :, columns]
    return filtered(filtered(padded, torch.from_numpy(down)[:, None]), torch.from_numpy(across)[None])


def _mirrored(size: int, reach: int) -> torch.Tensor:
    """Indices of a side extended by `reach`, the edge itself repeated: 1 0 | 0 1 2 ..."""
    return torch.from_numpy(np.pad(np.arange(size), reach, mode="symmetric"))


def pixelate(images_BCHW: torch.Tensor, scale: float, draws: TensorDraws) -> torch.Tensor:
    """Pillow's box filter, columns first, rounded after each pass; then the nearest coarse pixel."""
    levels = images_BCHW.double()
    for axis in (3, 2):
        averages, nearest = (torch.from_numpy(part).to(levels.device) for part in _coarse(levels.shape[axis], scale))
        levels = (levels.movedim(axis, -1) @ averages + 0.5).floor()[..., nearest].movedim(-1, axis)
    return levels


def _coarse(size: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Pillow's weights (size, n) float64 of n = int(size x scale) coarse pixels, and the coarse pixel of each pixel."""
    from PIL import Image

    count = int(size * scale)
    hits = np.asarray(Image.fromarray(np.eye(size, dtype=np.float32)).resize((count, size), Image.Resampling.BOX)) > 0
    ramp = Image.fromarray(np.arange(count, dtype=np.int32)[None])
    nearest = np.asarray(ramp.resize((size, 1), Image.Resampling.NEAREST))[0].astype(np.int64)
    return hits / hits.sum(axis=0), nearest


FUNCTIONS: dict[str, Callable[[torch.Tensor, Any, TensorDraws], torch.Tensor]] = {
    function.__name__: function
    for function in (
        gaussian_noise, shot_noise, impulse_noise, speckle_noise, defocus_blur, glass_blur, motion_blur, zoom_blur,
        gaussian_blur, snow, frost, fog, brightness, contrast, elastic_transform, pixelate, saturate,
    )
}  # fmt: skip
