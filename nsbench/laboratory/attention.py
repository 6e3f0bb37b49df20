"""`nsbench nullspace attention`: how far every attention head is from the conditions of proposition 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nsbench.laboratory import Bench
from nsbench.laboratory.figures import ON_DARK, ON_LIGHT, PALETTE, SOFT, new_figure, titles
from nsbench.laboratory.page import Sheet, short
from nsbench.nullspace.attention_conditions import TOLERANCE, LayerConditions, attention_conditions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def attention_sheet(bench: Bench, *, tolerance: float = TOLERANCE) -> Sheet:
    """The conditions of proposition 1 for every layer and head."""
    layers = attention_conditions(bench.model, tolerance=tolerance, seed=bench.seed)
    holding = [one.layer for one in layers if one.holds]
    columns = ["layer", "head", "1 symmetry defect", "2 values (deg)", "3 row (deg)", "change", "change, random"]
    rows = [
        [
            one.layer,
            head.head,
            short(head.symmetry_defect),
            short(head.containment_angle),
            short(head.colinearity_angle),
            short(one.change),
            short(one.random_change),
        ]
        for one in layers
        for head in one.heads
    ]
    found = (
        f"The conditions hold in layer {', '.join(map(str, holding))}: a noise along the free direction changes "
        f"the heads' outputs by {max(layers[index].change for index in holding):.1e} of their norm."
        if holding
        else "They hold in no layer, so no exact noise can be built from them. The direction that queries, keys "
        f"and values see least changes the heads' outputs {_gain(layers):.0f} times less (median over layers) "
        "than a random one."
    )
    notes = [
        found,
        "All measures are 0 where a condition holds: 1 |M - M'| / 2|M| of M = Wq Wk'; 2 the largest angle "
        "from the row space of Wv' to that of M; 3 the least angle of a row of M to another head's row space.",
        "Change: relative l2 change of the heads' outputs by a noise as large as the tokens, on random tokens. It "
        "concerns the layer after its layer norm; the residual path beside it still carries the noise.",
    ]
    return bench.write(
        "attention",
        "The conditions of proposition 1",
        "How far every attention head is from the paper's sufficient conditions for a nullspace.",
        columns,
        rows,
        figures={"": attention_figure(layers)},
        notes=notes,
        order=80,
        data={"layers": [_record(one) for one in layers]},
        facts={"tolerance": tolerance, "layers in which all conditions hold": len(holding)},
    )


def _record(one: LayerConditions) -> dict[str, Any]:
    plain = {key: value for key, value in vars(one).items() if key not in ("heads", "direction_D")}
    return plain | {"heads": [vars(head) for head in one.heads]}


def _gain(layers: Sequence[LayerConditions]) -> float:
    return float(np.median([one.random_change / one.change if one.change else math.inf for one in layers]))


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
                color=ON_DARK if value > 0.55 * most else ON_LIGHT,
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
