"""The exact nullspace as tables and figures: its dimension in many models (table 1), noise from it (figure 2)."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nsbench.errors import ModelError
from nsbench.laboratory import Bench, console
from nsbench.laboratory import linear_figures as draw
from nsbench.laboratory.page import Sheet, write_sheet
from nsbench.models import Model
from nsbench.models.untrained import untrained_model
from nsbench.nullspace.exact import PatchNullspace, PatchSpectrum, patch_nullspace, patch_spectrum
from nsbench.nullspace.probe import check_size, random_direction
from nsbench.provenance import device_name
from nsbench.registry import content_folder

BATCH = 32  # images of one forward pass


def published_dimensions() -> dict[str, dict[str, int]]:
    """The paper's table 1: patch_size, patch_dim, embed_dim and null_dim by model, without the input size."""
    path = content_folder("baselines") / "published" / "table1_patch_embedding_nullspace.csv"
    with path.open(newline="") as file:
        return {row.pop("model"): {key: int(value) for key, value in row.items()} for row in csv.DictReader(file)}


def architecture(name: str, seed: int = 0) -> Model:
    """An untrained model for its patch embedding alone: one block deep where the family allows it, to save memory."""
    try:
        return untrained_model(name, seed=seed, depth=1)
    except ModelError:
        return untrained_model(name, seed=seed)


def dims_sheet(
    models: Sequence[Model],
    trained: Sequence[bool],
    out: Path,
    *,
    tolerance: float | None = None,
    seed: int = 0,
    subject: str = "table1",
) -> Sheet:
    """Table 1: patch length, width, numerical rank and nullspace dimension of each model, with its spectrum."""
    start, published = time.perf_counter(), published_dimensions()
    spectra = [patch_spectrum(model, tolerance=tolerance) for model in models]
    columns = [
        "model",
        "weights",
        "patch, px",
        "P",
        "D",
        "rank",
        "nullspace dim.",
        "published",
        "sigma min / max",
        "tolerance",
        "effective rank",
        "tolerances for the published dim.",
    ]
    rows = [
        _dims_row(model, spectrum, weights, published)
        for model, spectrum, weights in zip(models, spectra, trained, strict=True)
    ]
    names = [
        model.name if weights else f"{model.name} (untrained)" for model, weights in zip(models, trained, strict=True)
    ]
    data = {
        "singular_values": {
            name: spectrum.singular_values_GR[0].tolist() for name, spectrum in zip(names, spectra, strict=True)
        }
    }
    sheet = Sheet(
        "dims",
        subject,
        "Nullspace of the patch embedding",
        "The patch embedding maps P pixel values to D numbers: what is left over, P minus the rank, can be added to "
        "every patch without changing a token (table 1).",
        columns,
        rows,
        {
            "models": len(models),
            "seed": seed,
            "device": device_name("cpu"),
            "seconds": round(time.perf_counter() - start, 1),
        },
        [
            "A singular value counts if it is above tolerance x the largest; by default max(P, D) x the epsilon of the "
            "weights' type, as in numpy.linalg.matrix_rank.",
            "Untrained weights are of full rank, so their dimension is max(P - D, 0). Where the published one is larger "
            "(ViT-B/16: 2 of 768), some of the published model's trained singular values lie below the tolerance; the "
            "last column says which tolerances would give that dimension with the weights at hand.",
        ],
        data,
        order=10,
    )
    write_sheet(sheet, out, console(), {"": draw.spectra(names, spectra)})
    return sheet


def _dims_row(model: Model, spectrum: PatchSpectrum, trained: bool, published: dict[str, dict[str, int]]) -> list[Any]:
    known = max((name for name in published if model.name.startswith(name)), key=len, default=None)
    wanted = published[known]["null_dim"] if known else None
    interval = spectrum.tolerances(wanted) if wanted is not None else None
    values = spectrum.singular_values_GR[0]
    return [
        model.name,
        "trained" if trained else "untrained",
        spectrum.patch_size,
        spectrum.patch_length,
        spectrum.width,
        spectrum.rank,
        spectrum.dimension,
        wanted,
        float(values[-1] / values[0]),
        spectrum.tolerance,
        spectrum.effective_rank,
        f"[{interval[0]:.2e}, {interval[1]:.2e})" if interval else None,
    ]


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
        "strength": draw.strengths(rows),
        "basis": draw.basis(spaces["whole matrix"]),
        "images": draw.noisy_images(
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
