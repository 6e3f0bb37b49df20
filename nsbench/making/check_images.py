"""What `nsbench data check` finds out by opening pictures: can they be decoded, have they the right size, and does a
model tell their classes apart?
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import torch

from nsbench.data.loading import batches
from nsbench.data.manifest import Manifest
from nsbench.data.sized import for_model
from nsbench.data.source import Split
from nsbench.making.expected import READY_SIDE, expected
from nsbench.making.findings import SetReport
from nsbench.models import Model
from nsbench.models.preprocessing import unit
from nsbench.progress import Progress
from nsbench.statistics import wilson

ALARM = 3  # times chance: accuracy whose interval reaches below it is no better than permuted labels would give
BATCH = 50
SIZES = 10  # different sizes that are listed


def check_contents(report: SetReport, contents: Manifest) -> SetReport:
    """The report with files that cannot be decoded, and with sizes where a set is used as it is."""
    report = replace(report, content_digest=contents.digest, unreadable=contents.unreadable)
    if contents.unreadable:
        first = next(iter(contents.unreadable.values()))
        report = report.with_problem(f"{len(contents.unreadable):,} unreadable: {first}")
    readable = contents.rows["width"] > 0
    shapes = np.stack([contents.rows["width"], contents.rows["height"]], axis=1)
    counted = Counter((width, height) for width, height in shapes[readable].tolist())
    commonest = counted.most_common(SIZES)
    report = replace(report, sizes={f"{width}x{height}": n for (width, height), n in commonest})
    if len(counted) > SIZES:
        report = report.with_note(f"{len(counted):,} different sizes")
    side = report.made_at or READY_SIDE
    odd = np.flatnonzero(readable & (shapes != side).any(axis=1))
    if not expected(report.split).ready or not len(odd):
        return report
    width, height = shapes[odd[0]]
    return report.with_problem(
        f"{len(odd):,} images are not {side}x{side}, such as {contents.ids[odd[0]]} ({width}x{height}); "
        "this set is used as it is and was resized by somebody: get it anew"
    )


def check_accuracy(report: SetReport, split: Split, model: Model, workers: int, progress: Progress) -> SetReport:
    """The report with the accuracy inside the set's classes; a problem where it is not clearly above chance."""
    preprocess = "none" if expected(split.name).ready else "checkpoint"
    split, transform = for_model(split, preprocess, model.input_size, True), model.preprocessing.transform(preprocess)
    if split.resized_from:
        report = report.with_note(f"resized from {split.resized_from} px for {model.name}; run wants --resize-ready")
    classes = np.arange(model.num_classes) if split.classes is None else np.array(split.classes)
    right = total = 0
    with progress.task(f"{split.name}: classifying", len(split)) as advance:
        for batch in batches(split, transform, batch_size=BATCH, workers=workers, corrupt={}):
            predictions = classes[_logits(model, batch.images)[:, classes].argmax(axis=1)]
            right, total = right + int((predictions == batch.labels.numpy()).sum()), total + len(batch)
            advance(len(batch))
    if not total:
        return report
    report, chance = replace(report, accuracy=round(100 * right / total, 2)), 100 / len(classes)
    if expected(split.name).adversarial or 100 * wilson(right, total)[0] >= ALARM * chance:
        return report
    return report.with_problem(
        f"accuracy of {model.name} is {report.accuracy:g} % of {total} images, near chance "
        f"({chance:.2g} %): are the labels permuted, or is it another model's label order?"
    )


def _logits(model: Model, images: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        logits: np.ndarray = model(unit(images, model.device)).cpu().numpy()
    return logits
