"""`nsbench nullspace sample`: noise of the exact nullspace beside random noise of equal norm (figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from nsbench.laboratory import Bench
from nsbench.laboratory.figures import (
    PALETTE,
    SOFT,
    legend,
    new_figure,
    percent,
    picture,
    reference_line,
    series,
    titles,
)
from nsbench.laboratory.page import Sheet
from nsbench.models import Model
from nsbench.nullspace.exact import PatchNullspace, from_patches, patch_nullspace, patch_spectrum
from nsbench.nullspace.probe import check_size, random_direction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH = 32  # images of one forward pass
BASIS = 16  # basis vectors that are shown


def sample_sheet(
    bench: Bench, *, norms: Sequence[float], images: int, shown_norm: float, tolerance: float | None = None
) -> Sheet:
    """Figure 2: noise of the exact nullspace, whole-matrix and per channel, beside random noise of equal norm."""
    pictures = bench.images("clean", images)
    pixels_BCHW = pictures.pixels_BCHW
    check_size(bench.model, pixels_BCHW)
    spaces = _spaces(bench.model, tolerance)
    size = (bench.model.input_size, bench.model.input_size)
    unit = {
        name: space.sample(size, norm=1.0, count=len(pixels_BCHW), seed=bench.seed).to(bench.device)
        for name, space in spaces.items()
    }
    draws = random_direction(pixels_BCHW, bench.seed)
    unit["random"] = draws / draws.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    clean_BK = _logits(bench.model, pixels_BCHW)
    rows = []
    for name, noise in unit.items():
        for norm in norms:
            noisy_BCHW = pixels_BCHW + norm * noise
            noisy_BK = _logits(bench.model, noisy_BCHW)
            rows.append(
                [
                    name,
                    spaces[name].dimension if name in spaces else None,
                    float(norm),
                    (noisy_BK - clean_BK).abs().max().item(),
                    100 * (noisy_BK.argmax(1) == clean_BK.argmax(1)).double().mean().item(),
                    100 * ((noisy_BCHW < 0) | (noisy_BCHW > 1)).double().mean().item(),
                ]
            )
    figures = {
        "strength": strengths_figure(rows),
        "basis": basis_figure(spaces["whole matrix"]),
        "images": images_figure(
            bench.model,
            bench.source.class_names,
            pixels_BCHW[:4],
            {name: shown_norm * noise[:4] for name, noise in unit.items()},
            shown_norm,
        ),
    }
    space = spaces["whole matrix"]
    return bench.write(
        "sample",
        "Noise of the exact nullspace",
        "A random combination of the nullspace's basis vectors (equation 2) leaves the logits as they are at any "
        "strength; random noise of the same norm does not.",
        [
            "noise",
            "basis vectors per patch",
            "norm, l2 of pixels in [0, 1]",
            "largest change of a logit",
            "same prediction, %",
            "pixels outside [0, 1], %",
        ],
        rows,
        figures=figures,
        facts={
            "images": len(pixels_BCHW),
            "tolerance": space.tolerance,
            "largest logit": round(clean_BK.abs().max().item(), 3),
        },
        notes=[
            "What is left of the change is float32 rounding, which grows with the norm.",
            *(
                []
                if "per channel" in spaces
                else [
                    "Each channel by itself has an empty nullspace in this model: its "
                    "patch vector is not longer than the width."
                ]
            ),
        ],
        order=20,
    )


def _spaces(model: Model, tolerance: float | None) -> dict[str, PatchNullspace]:
    """The whole matrix's nullspace, and that of single channels where it is not empty."""
    found = {"whole matrix": patch_nullspace(model, tolerance=tolerance)}
    if patch_spectrum(model, per_channel=True, tolerance=tolerance).dimension:
        found["per channel"] = patch_nullspace(model, per_channel=True, tolerance=tolerance)
    return found


@torch.no_grad()
def _logits(model: Model, images_BCHW: torch.Tensor) -> torch.Tensor:
    return torch.cat([model(part) for part in images_BCHW.split(BATCH)])


def strengths_figure(rows: Sequence[Sequence[Any]]) -> Figure:
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


def basis_figure(space: PatchNullspace) -> Figure:
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
def images_figure(
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
    return f"{name[:16]} {percent(probability.item(), 1)}"
