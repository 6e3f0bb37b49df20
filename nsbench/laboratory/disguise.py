"""`nsbench nullspace disguise`: sources that look like targets inside the nullspace (appendix F)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nsbench.errors import UsageError
from nsbench.laboratory import Bench, Images
from nsbench.laboratory.figures import percent, picture_grid, plain
from nsbench.laboratory.page import Sheet, short
from nsbench.laboratory.pictures import save_pictures, space_facts
from nsbench.nullspace.disguise import ROLES, Disguised, disguise
from nsbench.nullspace.exact import patch_nullspace
from nsbench.nullspace.saliency import SALIENCY

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

GLOW = np.array([0.835, 0.369, 0.0])  # vermilion, over a grey picture


def disguise_sheet(
    bench: Bench,
    sources: Images,
    targets: Images,
    *,
    bounded: bool = True,
    per_channel: bool = False,
    tolerance: float | None = None,
    methods: Sequence[str] = tuple(SALIENCY),
    save: Path | None = None,
    shown: int = 2,
) -> Sheet:
    """Make each source look like its target inside the nullspace, and compare classes, looks and saliency maps."""
    if len(sources.ids) != len(targets.ids):
        raise UsageError(f"{len(sources.ids)} sources and {len(targets.ids)} targets: give one target for each source")
    space = patch_nullspace(bench.model, per_channel=per_channel, tolerance=tolerance)
    done = disguise(bench.model, space, sources.pixels_BCHW, targets.pixels_BCHW, bounded=bounded, methods=methods)
    columns = [
        "source",
        "target",
        "class",
        "disguised",
        "target's",
        "SSIM to source",
        "to target",
        "map r to source",
        "to target",
    ]
    rows = [
        _row(record, source, target, methods)
        for record, source, target in zip(done.figures, sources.ids, targets.ids, strict=True)
    ]
    matches = 100 * float(np.mean([record["label_match"] for record in done.figures]))
    least = min(
        (
            alike["source"]
            for record in done.figures
            for alike in record["saliency"].values()
            if not math.isnan(alike["source"])
        ),
        default=math.nan,
    )
    if save:
        save_pictures(done.images_BCHW, sources.ids, save)
    first = slice(0, shown)
    few = Disguised(
        done.images_BCHW[first], done.figures[first], {method: maps[:, first] for method, maps in done.maps.items()}
    )
    figure = disguise_figure(sources.pixels_BCHW[first], targets.pixels_BCHW[first], few, bench.source.class_names)
    return bench.write(
        "disguise",
        "Sources moved towards targets, unseen by the model",
        f"{matches:.1f} % of {len(rows)} disguised sources keep the source's class; the least correlation of a "
        f"saliency map with the source's is {least:.4f}.",
        columns,
        rows,
        figures={"": figure},
        order=70,
        facts={
            **space_facts(space, bounded),
            "pairs": len(rows),
            "label match (%)": matches,
            "least map correlation": least,
        },
        notes=[
            "Maps explain the source's class in all three images; r is Pearson's correlation of the disguised "
            f"image's map with the source's (least of {', '.join(methods)}) and with the target's (most).",
            "What the nullspace cannot hold stays the source's: on average the disguise covers "
            f"{percent(float(np.mean([record['approach'] for record in done.figures])))} of the l2 distance to the target.",
            *([f"Disguised pictures: {save}"] if save else []),
        ],
        data={"records": done.figures, "roles": ROLES},
    )


def split_pairs(images: Images, sources: int | None = None) -> tuple[Images, Images]:
    """Sources and targets of one list: the first `sources` and the rest, by default halves."""
    cut = len(images.ids) // 2 if sources is None else sources
    ends = (slice(0, cut), slice(cut, 2 * cut if sources is None else None))
    first, second = (Images(images.pixels_BCHW[end], images.labels_B[end], images.ids[end]) for end in ends)
    if not first.ids:
        raise UsageError("a disguise needs at least one source and one target")
    return first, second


def _row(record: dict[str, Any], source: str, target: str, methods: Sequence[str]) -> list[Any]:
    least, most = (
        choose(record["saliency"][method][role] for method in methods)
        for choose, role in ((min, "source"), (max, "target"))
    )
    return [
        Path(source).name[-14:],
        Path(target).name[-14:],
        *(record["prediction"][role] for role in ROLES),
        *(short(record["ssim"][role]) for role in ("source", "target")),
        short(least),
        short(most),
    ]


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
            row = [(plain(images[role][index]), f"{role}: {word}, {percent(record['confidence'][role], 1)}\n{alike}")]
            for method, maps_3Bhw in done.maps.items():
                same = record["saliency"][method]
                caption = (
                    f"r = {same['source']:.3f} with source's\nr = {same['target']:.3f} with target's"
                    if role == "disguised"
                    else "\n"
                )
                row.append((overlay(images[role][index], maps_3Bhw[position, index]), caption))
            rows.append(row)
    return picture_grid(["image", *(method.replace("_", " ") for method in done.maps)], rows)


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
    glowing: np.ndarray = grey * (1 - 0.8 * scaled) + GLOW[:, None, None] * 0.8 * scaled
    return glowing
