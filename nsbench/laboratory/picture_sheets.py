"""Experiments on pictures and on attention weights, as tables and figures: watermark, disguise, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nsbench.errors import UsageError
from nsbench.laboratory import Bench, Images
from nsbench.laboratory import picture_figures as draw
from nsbench.laboratory.page import Sheet
from nsbench.laboratory.picture_files import save_pictures
from nsbench.nullspace.attention_conditions import TOLERANCE, LayerConditions, attention_conditions
from nsbench.nullspace.disguise import ROLES, Disguised, disguise
from nsbench.nullspace.exact import patch_nullspace
from nsbench.nullspace.saliency import SALIENCY
from nsbench.nullspace.watermark import Mark, Marked, watermark

BATCH = 25  # images that are edited and judged at a time


def attention_sheet(bench: Bench, *, tolerance: float = TOLERANCE) -> Sheet:
    """The conditions of proposition 1 for every layer and head."""
    layers = attention_conditions(bench.model, tolerance=tolerance, seed=bench.seed)
    holding = [one.layer for one in layers if one.holds]
    columns = ["layer", "head", "1 symmetry defect", "2 values (deg)", "3 row (deg)", "change", "change, random"]
    rows = [
        [
            one.layer,
            head.head,
            _short(head.symmetry_defect),
            _short(head.containment_angle),
            _short(head.colinearity_angle),
            _short(one.change),
            _short(one.random_change),
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
        f"Proposition 1 on {bench.model.name}",
        "How far every attention head is from the paper's sufficient conditions for a nullspace.",
        columns,
        rows,
        figures={"": draw.attention_figure(layers)},
        notes=notes,
        order=80,
        data={"layers": [_record(one) for one in layers]},
        facts={"tolerance": tolerance, "layers in which all conditions hold": len(holding)},
    )


def _record(one: LayerConditions) -> dict[str, Any]:
    plain = {key: value for key, value in vars(one).items() if key not in ("heads", "direction_D")}
    return plain | {"heads": [vars(head) for head in one.heads]}


def _short(value: float) -> float:
    """Three significant digits, for tables; the data keep all."""
    return float(f"{value:.3g}")


def _gain(layers: Sequence[LayerConditions]) -> float:
    return float(np.median([one.random_change / one.change if one.change else math.inf for one in layers]))


def watermark_sheet(
    bench: Bench,
    images: Images,
    mark: Mark,
    *,
    bounded: bool = True,
    per_channel: bool = False,
    tolerance: float | None = None,
    save: Path | None = None,
    shown: int = 3,
) -> Sheet:
    """Mark every image inside the nullspace; `save` also writes them as 8-bit PNGs into that folder."""
    space = patch_nullspace(bench.model, per_channel=per_channel, tolerance=tolerance)
    parts = [watermark(bench.model, space, part, mark, bounded=bounded) for part in images.pixels_BCHW.split(BATCH)]
    done = Marked(
        torch.cat([part.images_BCHW for part in parts]),
        torch.cat([part.wanted_BCHW for part in parts]),
        [row for part in parts for row in part.figures],
    )
    names = [Path(image_id).name for image_id in images.ids]
    columns = ["image", "class", "match", "match, 8 bit", "confidence change", "logit change", "mark kept", "SSIM"]
    rows = [
        [
            name,
            record["prediction"],
            record["label_match"],
            record["label_match_8bit"],
            *(_short(record[key]) for key in ("confidence_difference", "logit_change", "retained", "ssim")),
        ]
        for name, record in zip(names, done.figures, strict=True)
    ]
    summary = watermark_summary(done.figures)
    if save:
        save_pictures(done.images_BCHW, images.ids, save)
    first = slice(0, shown)
    figure = draw.watermark_figure(
        images.pixels_BCHW[first], done.wanted_BCHW[first], done.images_BCHW[first], done.figures[first], names[first]
    )
    return bench.write(
        "watermark",
        f"Watermarks that {bench.model.name} does not see",
        f"{summary['label match (%)']:.1f} % of {len(rows)} marked images keep their class; largest change of "
        f"confidence {100 * summary['largest confidence difference']:.3f} points.",
        columns,
        rows,
        figures={"": figure},
        facts={**_settings(space, bounded), "images": len(rows), **summary},
        notes=_watermark_notes(summary, bounded, save),
        order=60,
        data={"records": [{"image": image_id, **row} for image_id, row in zip(images.ids, done.figures, strict=True)]},
    )


def watermark_summary(figures: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Over all images: label match, confidence difference, logits, visibility."""

    def column(key: str) -> np.ndarray:
        return np.array([record[key] for record in figures], dtype=float)

    return {
        "label match (%)": 100 * column("label_match").mean(),
        "label match after 8-bit rounding (%)": 100 * column("label_match_8bit").mean(),
        "mean confidence difference": float(np.abs(column("confidence_difference")).mean()),
        "largest confidence difference": float(np.abs(column("confidence_difference")).max()),
        "largest confidence difference after 8-bit rounding": float(np.abs(column("confidence_difference_8bit")).max()),
        "largest logit change": float(column("logit_change").max()),
        "mean SSIM to the image": float(column("ssim").mean()),
        "mean PSNR to the image (dB)": float(column("psnr").mean()),
        "mean share of the mark retained": float(column("retained").mean()),
    }


def _watermark_notes(summary: dict[str, float], bounded: bool, save: Path | None) -> list[str]:
    notes = [
        f"After rounding to 8 bits, as a PNG stores it, {summary['label match after 8-bit rounding (%)']:.1f} % "
        "keep their class: rounding itself leaves the nullspace a little.",
        f"Visibility: SSIM {summary['mean SSIM to the image']:.3f} and PSNR "
        f"{summary['mean PSNR to the image (dB)']:.1f} dB between image and marked image (lower is more visible); "
        f"{summary['mean share of the mark retained']:.0%} of the wanted change survives.",
    ]
    if not bounded:
        notes.append(
            "Unbounded: pixels may lie outside [0, 1]; saved pictures are clipped, and clipping leaves the nullspace."
        )
    return notes + ([f"Marked pictures: {save}"] if save else [])


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
        _disguise_row(record, source, target, methods)
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
    figure = draw.disguise_figure(sources.pixels_BCHW[first], targets.pixels_BCHW[first], few, bench.source.class_names)
    return bench.write(
        "disguise",
        f"Sources moved towards targets, unseen by {bench.model.name}",
        f"{matches:.1f} % of {len(rows)} disguised sources keep the source's class; the least correlation of a "
        f"saliency map with the source's is {least:.4f}.",
        columns,
        rows,
        figures={"": figure},
        order=70,
        facts={
            **_settings(space, bounded),
            "pairs": len(rows),
            "label match (%)": matches,
            "least map correlation": least,
        },
        notes=[
            "Maps explain the source's class in all three images; r is Pearson's correlation of the disguised "
            f"image's map with the source's (least of {', '.join(methods)}) and with the target's (most).",
            "What the nullspace cannot hold stays the source's: on average the disguise covers "
            f"{np.mean([record['approach'] for record in done.figures]):.0%} of the l2 distance to the target.",
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


def _disguise_row(record: dict[str, Any], source: str, target: str, methods: Sequence[str]) -> list[Any]:
    least, most = (
        choose(record["saliency"][method][role] for method in methods)
        for choose, role in ((min, "source"), (max, "target"))
    )
    return [
        Path(source).name[-14:],
        Path(target).name[-14:],
        *(record["prediction"][role] for role in ROLES),
        *(_short(record["ssim"][role]) for role in ("source", "target")),
        _short(least),
        _short(most),
    ]


def _settings(space: Any, bounded: bool) -> dict[str, Any]:
    return {
        "nullspace dimension": space.dimension,
        "patch length": space.patch_length,
        "per channel": space.per_channel,
        "tolerance": space.tolerance,
        "pixels bounded to [0, 1]": bounded,
    }
