"""Figures of the exact nullspace: spectra, invariance over strength, basis vectors, noisy images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nsbench.laboratory.figures import (
    PALETTE,
    SOFT,
    from_zero,
    legend,
    new_figure,
    picture,
    reference_line,
    series,
    titles,
)
from nsbench.models import Model
from nsbench.nullspace.exact import PatchNullspace, PatchSpectrum, from_patches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASIS = 16  # basis vectors that are shown


def spectra(names: Sequence[str], found: Sequence[PatchSpectrum]) -> Figure:
    """Singular values of each patch embedding relative to its largest, and the rank that each tolerance gives."""
    figure, axes = new_figure(1, 2, width=5.2, height=3.6)
    left, right = axes[0]
    for index, (name, spectrum) in enumerate(zip(names, found, strict=True)):
        values = (spectrum.singular_values_GR[0] / spectrum.singular_values_GR[0, 0]).numpy()
        series(left, np.arange(1, len(values) + 1), values, index, name)
        places = np.logspace(-8, 0, 161)
        series(right, places, [spectrum.patch_length - (values > place).sum() for place in places], index)
    left.set_yscale("log")
    right.set_xscale("log")
    from_zero(right)
    titles(left, "Spectrum of the patch embedding", "index of the singular value", "singular value / largest")
    titles(
        right,
        "The tolerance decides the dimension",
        "tolerance, relative to the largest singular value",
        "nullspace dimension per patch",
    )
    tolerance = max(spectrum.tolerance for spectrum in found)
    reference_line(left, tolerance, f"tolerance {tolerance:.1e}")
    right.axvline(tolerance, color="#191b1f", linewidth=1, dashes=(4, 3))
    legend(figure, loc="outside lower center", ncols=2 if len(names) > 1 else 1)
    return figure


def strengths(rows: Sequence[Sequence[Any]]) -> Figure:
    """Largest change of a logit over the noise's norm, both logarithmic; one line per kind of noise."""
    figure, axes = new_figure(width=5.6, height=3.4)
    for index, kind in enumerate(dict.fromkeys(row[0] for row in rows)):
        mine = [row for row in rows if row[0] == kind]
        series(
            axes[0, 0],
            [row[2] for row in mine],
            [max(row[3], 1e-9) for row in mine],
            index,
            f"exact, {kind}" if kind != "random" else "random",
        )
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_yscale("log")
    reference_line(axes[0, 0], 1e-4, "1e-4")
    titles(
        axes[0, 0],
        "Exact noise leaves the logits alone",
        "norm of the noise, l2 of pixels in [0, 1]",
        "largest change of a logit",
    )
    legend(axes[0, 0])
    return figure


def basis(space: PatchNullspace) -> Figure:
    """The first basis vectors as patches, grey where they are zero."""
    count = min(BASIS, space.pixel_basis_PK.shape[1])
    figure, axes = new_figure(2, -(-count // 2), width=0.9, height=0.95)
    for place in axes.flat:
        place.set_axis_off()
    side = space.patch_size
    for index, place in enumerate(axes.flat[:count]):
        vector_CHW = from_patches(space.pixel_basis_PK[:, index].view(1, 1, -1), side, (side, side))[0]
        place.set_axis_on()
        picture(place, (0.5 + 0.5 * vector_CHW / vector_CHW.abs().max()).numpy(), f"v{index + 1}")
    figure.suptitle(
        f"{count} of {space.pixel_basis_PK.shape[1]} basis vectors, {side} x {side} px; grey is zero",
        fontsize=9,
        x=0.01,
        ha="left",
        fontweight="bold",
    )
    return figure


@torch.no_grad()
def noisy_images(
    model: Model, class_names: Sequence[str], images_BCHW: torch.Tensor, noises: Mapping[str, torch.Tensor], norm: float
) -> Figure:
    """Rows: images. Columns: clean, the noise (around grey), and the sum, for each kind; prediction under each."""
    figure, axes = new_figure(len(images_BCHW), 1 + 2 * len(noises), width=1.55, height=1.75)
    for row, place in enumerate(axes[:, 0]):
        picture(place, images_BCHW[row].cpu().numpy(), _said(model, class_names, images_BCHW[row]))
    axes[0, 0].set_title("clean", fontsize=9, color=SOFT)
    for kind, (name, noise_BCHW) in enumerate(noises.items()):
        label = "random" if name == "random" else f"exact, {name}"
        for row in range(len(images_BCHW)):
            noise_CHW, sum_CHW = noise_BCHW[row], images_BCHW[row] + noise_BCHW[row]
            spread = 4 * noise_CHW.std()
            picture(axes[row, 1 + 2 * kind], (0.5 + noise_CHW / spread).cpu().numpy(), f"norm {norm:.3g}")
            picture(axes[row, 2 + 2 * kind], sum_CHW.cpu().numpy(), _said(model, class_names, sum_CHW))
        axes[0, 1 + 2 * kind].set_title(label, fontsize=9, color=PALETTE[kind])
        axes[0, 2 + 2 * kind].set_title(f"clean + {name}", fontsize=9, color=PALETTE[kind])
    return figure


def _said(model: Model, class_names: Sequence[str], image_CHW: torch.Tensor) -> str:
    """Predicted class and its probability."""
    probability, index = model(image_CHW[None]).softmax(dim=1).max(dim=1)
    name = str(class_names[int(index)])
    return f"{name[:16]} {100 * probability.item():.1f} %"
