"""`nsbench nullspace dims`: the dimension of the patch embedding's nullspace in many models (table 1)."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nsbench.errors import ModelError
from nsbench.laboratory.figures import INK, from_zero, legend, new_figure, reference_line, series, titles
from nsbench.laboratory.page import Sheet, write_sheet
from nsbench.models import Model
from nsbench.models.untrained import untrained_model
from nsbench.nullspace.exact import PatchSpectrum, patch_spectrum
from nsbench.provenance import device_name
from nsbench.registry import content_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    write_sheet(sheet, out, {"": spectra_figure(names, spectra)})
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


def spectra_figure(names: Sequence[str], found: Sequence[PatchSpectrum]) -> Figure:
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
    right.axvline(tolerance, color=INK, linewidth=1, dashes=(4, 3))
    legend(figure, loc="outside lower center", ncols=2 if len(names) > 1 else 1)
    return figure
