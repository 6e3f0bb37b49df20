"""`nsbench nullspace watermark`: marks on images that the model does not see (appendix E, equation 12)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nsbench.laboratory import Bench, Images
from nsbench.laboratory.figures import percent, picture_grid, plain
from nsbench.laboratory.page import Sheet, short
from nsbench.laboratory.pictures import save_pictures, space_facts
from nsbench.nullspace.exact import patch_nullspace
from nsbench.nullspace.watermark import Mark, Marked, watermark

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

BATCH = 25  # images that are edited and judged at a time


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
            *(short(record[key]) for key in ("confidence_difference", "logit_change", "retained", "ssim")),
        ]
        for name, record in zip(names, done.figures, strict=True)
    ]
    summary = watermark_summary(done.figures)
    if save:
        save_pictures(done.images_BCHW, images.ids, save)
    first = slice(0, shown)
    figure = watermark_figure(
        images.pixels_BCHW[first], done.wanted_BCHW[first], done.images_BCHW[first], done.figures[first], names[first]
    )
    return bench.write(
        "watermark",
        "Watermarks that the model does not see",
        f"{summary['label match (%)']:.1f} % of {len(rows)} marked images keep their class; largest change of "
        f"confidence {100 * summary['largest confidence difference']:.3f} points.",
        columns,
        rows,
        figures={"": figure},
        facts={**space_facts(space, bounded), "images": len(rows), **summary},
        notes=_notes(summary, bounded, save),
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


def _notes(summary: dict[str, float], bounded: bool, save: Path | None) -> list[str]:
    notes = [
        f"After rounding to 8 bits, as a PNG stores it, {summary['label match after 8-bit rounding (%)']:.1f} % "
        "keep their class: rounding itself leaves the nullspace a little.",
        f"Visibility: SSIM {summary['mean SSIM to the image']:.3f} and PSNR "
        f"{summary['mean PSNR to the image (dB)']:.1f} dB between image and marked image (lower is more visible); "
        f"{percent(summary['mean share of the mark retained'])} of the wanted change survives.",
    ]
    if not bounded:
        notes.append(
            "Unbounded: pixels may lie outside [0, 1]; saved pictures are clipped, and clipping leaves the nullspace."
        )
    return notes + ([f"Marked pictures: {save}"] if save else [])


def watermark_figure(
    images: Tensor, wanted: Tensor, marked: Tensor, figures: Sequence[dict[str, Any]], names: Sequence[str]
) -> Figure:
    """Image, mark as wanted, mark inside the nullspace, and the change x 3 around grey; one row an image."""
    rows = []
    for image, asked, done, row, name in zip(images, wanted, marked, figures, names, strict=True):
        same = "✓ same class" if row["label_match"] else "✗ other class"
        rows.append(
            [
                (plain(image), f"{name[-26:]}\nclass {row['prediction']}, {percent(row['confidence'], 1)}"),
                (plain(asked), "laid on without\nthe nullspace"),
                (
                    plain(done),
                    f"{same}, {100 * row['confidence_difference']:+.2f} points\nSSIM to the image {row['ssim']:.2f}",
                ),
                (
                    plain(0.5 + 1.5 * (done - image)),
                    f"contrast {255 * row['contrast']:.0f}/255\n{percent(row['retained'])} of the mark kept",
                ),
            ]
        )
    return picture_grid(["image", "mark as wanted", "mark in the nullspace", "change × 3"], rows)
