"""Figures of what the nullspace does to pictures, and of the conditions of proposition 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nsbench.laboratory.figures import INK, PALETTE, SOFT, new_figure, picture, titles
from nsbench.nullspace.disguise import ROLES, Disguised

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from nsbench.nullspace.attention_conditions import LayerConditions

CELL = 1.75  # inches of a thumbnail
GLOW = np.array([0.835, 0.369, 0.0])  # vermilion, over a grey picture


def grid(heads: Sequence[str], rows: Sequence[Sequence[tuple[np.ndarray, str]]]) -> Figure:
    """Thumbnails (3, H, W) with a caption below each, on a strict grid: one head a column."""
    figure, axes = new_figure(len(rows), len(heads), width=CELL, height=CELL + 0.34)
    for index, row in enumerate(rows):
        for column, (image, caption) in enumerate(row):
            picture(axes[index, column], image, caption)
            axes[index, column].xaxis.label.set_size(6.5)
    for column, head in enumerate(heads):
        axes[0, column].set_title(head, fontsize=8.5, fontweight="bold", loc="left")
    return figure


def watermark_figure(
    images: Tensor, wanted: Tensor, marked: Tensor, figures: Sequence[dict[str, Any]], names: Sequence[str]
) -> Figure:
    """Image, mark as wanted, mark inside the nullspace, and the change x 3 around grey; one row an image."""
    rows = []
    for image, asked, done, row, name in zip(images, wanted, marked, figures, names, strict=True):
        same = "✓ same class" if row["label_match"] else "✗ other class"
        rows.append(
            [
                (plain(image), f"{name[-26:]}\nclass {row['prediction']}, {row['confidence']:.1%}"),
                (plain(asked), "laid on without\nthe nullspace"),
                (
                    plain(done),
                    f"{same}, {100 * row['confidence_difference']:+.2f} points\nSSIM to the image {row['ssim']:.2f}",
                ),
                (
                    plain(0.5 + 1.5 * (done - image)),
                    f"contrast {255 * row['contrast']:.0f}/255\n{row['retained']:.0%} of the mark kept",
                ),
            ]
        )
    return grid(["image", "mark as wanted", "mark in the nullspace", "change × 3"], rows)


def disguise_figure(sources: Tensor, targets: Tensor, done: Disguised, names: Sequence[str]) -> Figure:
    """Source, disguised source and target of each pair, their saliency maps by every method, and how alike they are."""
    images = dict(zip(ROLES, (sources, done.images_BCHW, targets), strict=True))
    rows = []
    for index in range(len(sources)):
        record = done.figures[index]
        for position, role in enumerate(ROLES):
            alike = (
                f"SSIM {record['ssim']['source']:.2f} to source, {record['ssim']['target']:.2f} to target"
                if role == "disguised"
                else ""
            )
            word = names[record["prediction"][role]].split(",")[0].strip()[:20]
            row = [(plain(images[role][index]), f"{role}: {word}, {record['confidence'][role]:.1%}\n{alike}")]
            for method, maps_3Bhw in done.maps.items():
                same = record["saliency"][method]
                caption = (
                    f"r = {same['source']:.3f} with source's\nr = {same['target']:.3f} with target's"
                    if role == "disguised"
                    else "\n"
                )
                row.append((overlay(images[role][index], maps_3Bhw[position, index]), caption))
            rows.append(row)
    return grid(["image", *(method.replace("_", " ") for method in done.maps)], rows)


def overlay(image_3HW: Tensor, map_hw: Tensor) -> np.ndarray:
    """A saliency map over a grey picture, (3, H, W): vermilion from the map's median (or 0, for signed maps) up to its
    99th percentile."""
    grey = 0.25 + 0.7 * plain(image_3HW).mean(axis=0, keepdims=True)
    values = map_hw.detach().double().cpu().numpy()
    low = max(0.0, float(np.median(values)))
    top = float(np.quantile(values, 0.99))
    scaled = np.clip((values - low) / (top - low), 0, 1) if top > low else np.zeros_like(values)
    height, width = grey.shape[1:]
    scaled = scaled.repeat(height // values.shape[0], 0).repeat(width // values.shape[1], 1)
    return grey * (1 - 0.8 * scaled) + GLOW[:, None, None] * 0.8 * scaled


def attention_figure(layers: Sequence[LayerConditions]) -> Figure:
    """Layer x head heat maps of the three conditions, and the change that the least seen direction makes."""
    heads = max(len(one.heads) for one in layers)
    height = 1.2 + 0.22 * len(layers)
    figure, axes = new_figure(1, 4, width=max(1.9, 0.35 * heads + 0.9), height=height)
    panels = [
        ("1  symmetry defect", "0 symmetric, 0.71 random", 1.0, "symmetry_defect", "{:.2f}"),
        ("2  angle of values (°)", "0 contained", 90.0, "containment_angle", "{:.0f}"),
        ("3  angle of a row (°)", "0 colinear", 90.0, "colinearity_angle", "{:.0f}"),
    ]
    for panel, (title, note, most, name, form) in zip(axes[0], panels, strict=False):
        values = np.full((len(layers), heads), np.nan)
        for row, one in enumerate(layers):
            values[row, : len(one.heads)] = [getattr(head, name) for head in one.heads]
        _cells(panel, values, most, form if heads <= 6 else "")
        titles(panel, title, f"head\n({note})", "layer" if name == "symmetry_defect" else "")
    _changes(axes[0, 3], layers)
    figure.legend(
        *axes[0, 3].get_legend_handles_labels(),
        loc="outside lower right",
        ncols=2,
        fontsize=8,
        labelcolor=SOFT,
        frameon=False,
    )
    return figure


def _cells(axes: Axes, values: np.ndarray, most: float, form: str) -> None:
    axes.imshow(values, cmap="Blues", vmin=0, vmax=most, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(values.shape[1]))
    axes.set_yticks(range(values.shape[0]))
    if form:
        for (row, column), value in np.ndenumerate(values):
            axes.text(
                column,
                row,
                "" if np.isnan(value) else form.format(value),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if value > 0.55 * most else INK,
            )


def _changes(axes: Axes, layers: Sequence[LayerConditions]) -> None:
    """Relative change of the heads' outputs by noise as large as the tokens, on a logarithmic axis."""
    places = range(len(layers))
    for index, (label, name) in enumerate([("least seen direction", "change"), ("random direction", "random_change")]):
        axes.scatter(
            [max(getattr(one, name), 1e-16) for one in layers],
            places,
            s=22,
            color=PALETTE[index],
            marker="os"[index],
            label=label,
            facecolors=PALETTE[index] if index == 0 else "none",
        )
    axes.set_xscale("log")
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_yticks(list(places))
    titles(axes, "change of the output", "relative l2, noise as large\nas the tokens")


def plain(image_3HW: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] for drawing; what lies outside is clipped."""
    return image_3HW.detach().double().cpu().clamp(0, 1).numpy()
