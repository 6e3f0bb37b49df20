"""`nsbench data check`: is what lies there what the suites believe it to be?

For every set: complete or not, labels in the right order, pictures that can be decoded to their end and have the
right size, and a checksum over all contents. With a model also whether its accuracy is above chance, which a
permutation of the labels would spoil.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsbench.data import wnids
from nsbench.data.find import FOLDERS
from nsbench.data.imagenet import CORRUPTED, ImageNetTree
from nsbench.data.manifest import Manifest, manifest
from nsbench.data.source import Split
from nsbench.data.stored import StoredSplit
from nsbench.errors import DataError, ModelError, NsbenchError
from nsbench.making.expected import READY_SIDE, VAL_LABELS, Expected, expected
from nsbench.making.findings import Report, SetReport
from nsbench.progress import SILENT, Progress
from nsbench.statistics import wilson

if TYPE_CHECKING:
    import torch

    from nsbench.models import Model

ALARM = 3  # times chance: accuracy whose interval reaches below it is no better than permuted labels would give
SHOWN = 3  # names that the text gives of many; the JSON gives all


def check(
    root: str | Path,
    *,
    model: Model | None = None,
    limit: int = 500,
    read: bool = True,
    workers: int = 0,
    progress: Progress = SILENT,
) -> Report:
    """Check an ImageNet tree or a config file. Raises DataError where there is nothing to check.

    `read=False` leaves the pictures unopened: counts and labels only. With a `model`, `limit` images of each set are
    classified, decoded in `workers` processes.
    """
    source = ImageNetTree(root)
    if model is not None and model.num_classes != len(source.class_names):
        raise ModelError(
            f"model '{model.name}' has {model.num_classes} classes, ImageNet has "
            f"{len(source.class_names)}; choose a model of ImageNet-1k"
        )
    names = [name for name in source.splits() if not name.startswith("c/") or "c" in source.layout.places]
    val = _labels_by_stem(source)
    sets = [_check_set(source, name, val, model, limit, read, workers, progress) for name in names]
    if "c" in source.layout.places:
        sets += _absent_corruptions(source, names)
    absent = [name for name in (*FOLDERS, "c") if name not in source.layout.places]
    return Report(str(root), sets, absent, model.name if model else None)


def _check_set(
    source: ImageNetTree,
    name: str,
    val: dict[str, int],
    model: Model | None,
    limit: int,
    read: bool,
    workers: int,
    progress: Progress,
) -> SetReport:
    found = SetReport(name, str(source.layout.places["c" if name.startswith("c/") else name]))
    try:
        split = source.split(name)
        if not isinstance(split, StoredSplit):
            raise DataError(f"{name}: is made when it is used, and lies nowhere")
        found.origin, found.digest = split.origin, split.digest
        if split.origin != "official":
            found.notes.append(f"made by nsbench ({split.origin}); its figures never share a column with official ones")
        _check_counts(found, split, declared=(name.partition("/")[0] in source.layout.classes))
        _check_labels(found, split, val)
        if read:
            _check_contents(found, manifest(split, progress), expected(name))
        if model is not None:
            _check_accuracy(found, split.limited(limit), model, workers, progress)
    except NsbenchError as error:
        found.problems.append(str(error))
    progress.line(f"{name}: {'ok' if not found.problems else found.problems[0]}", style="dim")
    return found


def _check_counts(found: SetReport, split: Split, declared: bool) -> None:
    """Images in all and in each class, against the published set."""
    labels, counts = np.unique(split.labels, return_counts=True)
    found.images, found.classes = len(split), len(labels)
    if declared:
        found.complete = True
        found.notes.append(
            f"scored over {len(split.classes or ())} declared classes, with the figure over all 1000 beside it"
        )
        return
    wanted, order = expected(split.name), wnids.wnids()
    found.expected_images, found.expected_classes = wanted.images, wanted.classes
    absent = set(split.classes or range(wanted.classes)) - set(labels.tolist())
    found.absent_classes = [order[label] for label in sorted(absent)]
    if wanted.per_class:
        found.odd_classes = {
            order[label]: count
            for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
            if count != wanted.per_class
        }
    found.complete = found.images == wanted.images and not found.absent_classes and not found.odd_classes
    if found.complete:
        return
    details = [f"{found.images:,} of {wanted.images:,} images"]
    if found.absent_classes:
        details.append(f"{len(found.absent_classes)} of {wanted.classes} classes absent{_such(found.absent_classes)}")
    if found.odd_classes:
        details.append(
            f"{len(found.odd_classes)} classes without their {wanted.per_class} images{_such(found.odd_classes)}"
        )
    found.problems.append(
        f"incomplete or altered: {'; '.join(details)}. Copy it again; if it holds fewer classes on "
        "purpose, declare them in a config file"
    )


def _check_labels(found: SetReport, split: Split, val: dict[str, int]) -> None:
    """Order of folders, and agreement with the labels of val and with the published list."""
    folders = [str(image_id).rpartition("/")[0] for image_id in split.ids]
    if all(folders) and split.classes is None:
        order = {folder: position for position, folder in enumerate(sorted(set(folders)))}
        wrong = sum(order[folder] != label for folder, label in zip(folders, split.labels.tolist(), strict=True))
        if wrong:
            kind = "numbers read as numbers" if folders[0].isdecimal() else "wnids looked up in the list of 1000"
            found.notes.append(
                f"folders are {kind}; torchvision's ImageFolder, which counts the folders in string "
                f"order, would label {wrong:,} of {len(split):,} images wrongly"
            )
    if not expected(split.name).of_val:
        return
    labels = {_stem(image_id): label for image_id, label in zip(split.ids, split.labels.tolist(), strict=True)}
    differ = [stem for stem, label in labels.items() if val.get(stem, label) != label]
    if differ:
        found.problems.append(
            f"{len(differ):,} of {len(labels):,} images have another label than in val, such as "
            f"{differ[0]} ({labels[differ[0]]}, in val {val[differ[0]]}); correct the labels"
        )
    if len(labels) == 50_000 and all(stem.startswith("ILSVRC2012_val_") for stem in labels):
        text = "".join(f"{stem} {label}\n" for stem, label in sorted(labels.items()))
        if hashlib.sha256(text.encode()).hexdigest() != VAL_LABELS:
            found.problems.append(
                "labels are not those of the published validation list; are files in wrong folders, "
                "or is the label file from another order of classes?"
            )


def _check_contents(found: SetReport, contents: Manifest, wanted: Expected) -> None:
    """Files that cannot be decoded, and sizes where a set is used as it is."""
    found.content_digest, found.unreadable = contents.digest, contents.unreadable
    if contents.unreadable:
        first = next(iter(contents.unreadable.values()))
        found.problems.append(f"{len(contents.unreadable):,} unreadable: {first}")
    readable = contents.rows["width"] > 0
    shapes = np.stack([contents.rows["width"], contents.rows["height"]], axis=1)
    counted = Counter(map(tuple, shapes[readable].tolist()))
    found.sizes = {f"{width}x{height}": n for (width, height), n in counted.most_common(10)}
    if len(counted) > 10:
        found.notes.append(f"{len(counted):,} different sizes")
    odd = np.flatnonzero(readable & (shapes != READY_SIDE).any(axis=1))
    if wanted.ready and len(odd):
        width, height = shapes[odd[0]]
        found.problems.append(
            f"{len(odd):,} images are not {READY_SIDE}x{READY_SIDE}, such as "
            f"{contents.ids[odd[0]]} ({width}x{height}); this set is used as it is and was resized "
            "by somebody: get it anew"
        )


def _check_accuracy(found: SetReport, split: Split, model: Model, workers: int, progress: Progress) -> None:
    """Accuracy inside the set's classes; an alarm where it is not clearly above chance."""
    from nsbench.data.loading import batches

    ready = expected(split.name).ready
    transform = model.preprocessing.transform("none" if ready else "checkpoint")
    classes = np.arange(model.num_classes) if split.classes is None else np.array(split.classes)
    right = total = 0
    with progress.task(f"{split.name}: classifying", len(split)) as advance:
        for batch in batches(split, transform, batch_size=50, workers=workers, corrupt={}):
            predictions = classes[_logits(model, batch.images)[:, classes].argmax(axis=1)]
            right, total = right + int((predictions == batch.labels.numpy()).sum()), total + len(batch)
            advance(len(batch))
    if not total:
        return
    found.accuracy = round(100 * right / total, 2)
    chance = 100 / len(classes)
    if expected(split.name).adversarial:
        return
    if 100 * wilson(right, total)[0] < ALARM * chance:
        found.problems.append(
            f"accuracy of {model.name} is {found.accuracy:g} % of {total} images, near chance "
            f"({chance:.2g} %): are the labels permuted, or is it another model's label order?"
        )


def _logits(model: Model, images: torch.Tensor) -> np.ndarray:
    import torch

    from nsbench.models.preprocessing import unit

    with torch.inference_mode():
        logits: np.ndarray = model(unit(images, model.device)).cpu().numpy()
    return logits


def _absent_corruptions(source: ImageNetTree, names: list[str]) -> list[SetReport]:
    missing = [name for name in CORRUPTED if name not in names]
    if not missing:
        return []
    return [
        SetReport(
            "c",
            str(source.layout.places["c"]),
            problems=[
                f"{len(CORRUPTED) - len(missing)} of {len(CORRUPTED)} corrupted sets are here; absent{_such(missing)}. "
                "Without them there is no mCE"
            ],
        )
    ]


def _labels_by_stem(source: ImageNetTree) -> dict[str, int]:
    """Labels of val by file stem, where val is here and can be read; what is wrong with it is reported in its turn."""
    try:
        val = source.split("clean")
    except NsbenchError:
        return {}
    return {_stem(image_id): label for image_id, label in zip(val.ids, val.labels.tolist(), strict=True)}


def _stem(image_id: object) -> str:
    return Path(str(image_id)).stem


def _such(names: Iterable[str]) -> str:
    """The first few of many names, in brackets."""
    listed = list(names)
    return f" ({', '.join(listed[:SHOWN])}{', ...' if len(listed) > SHOWN else ''})"
