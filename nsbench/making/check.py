"""`nsbench data check`: is what lies there what the suites believe it to be?

For every set: complete or not, labels in the right order, pictures that can be decoded to their end and have the
right size, and a checksum over all contents. With a model also whether its accuracy is above chance, which a
permutation of the labels would spoil.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nsbench.data import wnids
from nsbench.data.find import FOLDERS
from nsbench.data.imagenet import CORRUPTED, ImageNetTree
from nsbench.data.manifest import manifest
from nsbench.data.own_parts import OWN, has_own_classes
from nsbench.data.parts import is_class
from nsbench.data.source import Split, require_its_classes
from nsbench.data.stored import StoredSplit
from nsbench.data.unread import unread_words
from nsbench.errors import NsbenchError
from nsbench.making.check_images import check_accuracy, check_contents
from nsbench.making.check_own import check_own
from nsbench.making.expected import expected, is_published_val
from nsbench.making.findings import Report, SetReport
from nsbench.models import Model
from nsbench.progress import SILENT, Progress

SHOWN = 3  # names that the text gives of many; the JSON gives all


def check_sets(
    root: str | Path,
    *,
    model: Model | None = None,
    limit: int = 500,
    read: bool = True,
    workers: int = 0,
    follow_links: bool = False,
    progress: Progress = SILENT,
) -> Report:
    """Check an ImageNet tree or a config file. Raises DataError where there is nothing to check.

    `read=False` leaves the pictures unopened: counts and labels only. With a `model`, `limit` images of each set are
    classified, decoded in `workers` processes. `follow_links`: links may lead out of their set. Images of other classes
    than ImageNet's are checked for what they are.
    """
    kind, _, place = str(root).partition(":")
    own = Path(place) if kind == OWN and place else Path(root)
    if kind == OWN or has_own_classes(own, follow_links):
        return check_own(
            own, model=model, limit=limit, read=read, workers=workers, follow_links=follow_links, progress=progress
        )
    source = ImageNetTree(root, follow_links=follow_links)
    if model is not None:
        require_its_classes(source, model.name, model.num_classes)
    names = [name for name in source.splits() if not name.startswith("c/") or "c" in source.layout.places]
    val, sets = _labels_of_val(source), []
    for name in names:
        report, split = _check_labelling(source, name, val)
        if split is not None:
            report = _check_pictures(report, split, model, limit, read, workers, progress)
        progress.line(f"{name}: {report.state}", style="dim")
        sets.append(report)
    if "c" in source.layout.places:
        sets += _absent_corruptions(source, names)
    absent = tuple(name for name in (*FOLDERS, "c") if name not in source.layout.places)
    return Report(str(root), tuple(sets), absent, model.name if model else None)


def _check_labelling(source: ImageNetTree, name: str, val: Mapping[str, int]) -> tuple[SetReport, StoredSplit | None]:
    """What can be said without opening a picture, and the split, where there is one."""
    report = SetReport(name, str(source.layout.places["c" if name.startswith("c/") else name]))
    try:
        split = source.split(name)
    except NsbenchError as error:
        return report.with_problem(str(error)), None
    if not isinstance(split, StoredSplit):
        return report.with_problem(f"{name}: is made when it is used, and lies nowhere"), None
    report = replace(report, origin=split.origin, digest=split.digest, made_at=split.made_at)
    if split.origin != "official":
        report = report.with_note(
            f"made by nsbench ({split.origin}); its figures never share a column with official ones"
        )
    if words := unread_words(split):
        report = report.with_problem(words)
    declared = name.partition("/")[0] in source.layout.classes
    report = _count_declared(report, split) if declared else _check_counts(report, split)
    return _check_labels(_note_order(report, split), split, val), split


def _check_pictures(
    report: SetReport,
    split: StoredSplit,
    model: Model | None,
    limit: int,
    read: bool,
    workers: int,
    progress: Progress,
) -> SetReport:
    try:
        if read:
            report = check_contents(report, manifest(split, progress))
        if model is not None:
            report = check_accuracy(report, split.limited(limit), model, workers, progress)
    except NsbenchError as error:
        return report.with_problem(str(error))
    return report


def _count_declared(report: SetReport, split: Split) -> SetReport:
    """The report of a set whose classes a config file declares: no number of images is right or wrong."""
    report = replace(report, images=len(split), classes=len(np.unique(split.labels)), complete=True)
    return report.with_note(
        f"scored over {len(split.classes or ())} declared classes, with the figure over all 1000 beside it"
    )


def _check_counts(report: SetReport, split: Split) -> SetReport:
    """The report with images in all and in each class, against the published set."""
    labels, counts = np.unique(split.labels, return_counts=True)
    wanted, order = expected(split.name), wnids.wnids()
    absent = sorted(set(split.classes or range(wanted.classes)) - set(labels.tolist()))
    odd = {
        order[label]: count
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
        if wanted.per_class and count != wanted.per_class
    }
    report = replace(
        report,
        images=len(split),
        expected_images=wanted.images,
        classes=len(labels),
        expected_classes=wanted.classes,
        absent_classes=tuple(order[label] for label in absent),
        odd_classes=odd,
        complete=len(split) == wanted.images and not absent and not odd,
    )
    if report.complete:
        return report
    details = [f"{report.images:,} of {wanted.images:,} images"]
    if absent:
        details.append(f"{len(absent)} of {wanted.classes} classes absent{_such(report.absent_classes)}")
    if odd:
        details.append(f"{len(odd)} classes without their {wanted.per_class} images{_such(odd)}")
    return report.with_problem(
        f"incomplete or altered: {'; '.join(details)}. Copy it again; if it holds fewer classes on "
        f'purpose, declare them in a config file, [classes] {split.name.partition("/")[0]} = "present"'
    )


def _note_order(report: SetReport, split: StoredSplit) -> SetReport:
    """The report with a note where torchvision would label a folder tree otherwise."""
    folders = [name.partition("/")[0] for name in split.names]
    if not all(map(is_class, set(folders))) or split.classes is not None:
        return report
    order = {folder: position for position, folder in enumerate(sorted(set(folders)))}
    wrong = sum(order[folder] != label for folder, label in zip(folders, split.labels.tolist(), strict=True))
    if not wrong:
        return report
    kind = "numbers read as numbers" if folders[0].isdecimal() else "wnids looked up in the list of 1000"
    return report.with_note(
        f"folders are {kind}; torchvision's ImageFolder, which counts the folders in string "
        f"order, would label {wrong:,} of {len(split):,} images wrongly"
    )


def _check_labels(report: SetReport, split: Split, val: Mapping[str, int]) -> SetReport:
    """The report of a set that is made from val, with what contradicts the labels of val and the published list."""
    if not expected(split.name).of_val:
        return report
    labels = _labels(split)
    differ = [name for name, label in labels.items() if val.get(name, label) != label]
    if differ:
        report = report.with_problem(
            f"{len(differ):,} of {len(labels):,} images have another label than in val, such as "
            f"{differ[0]} ({labels[differ[0]]}, in val {val[differ[0]]}); correct the labels"
        )
    if is_published_val(labels) is not False:
        return report
    return report.with_problem(
        "labels are not those of the published validation list; are files in wrong folders, "
        "or is the label file from another order of classes?"
    )


def _absent_corruptions(source: ImageNetTree, names: Sequence[str]) -> list[SetReport]:
    missing = [name for name in CORRUPTED if name not in names]
    if not missing:
        return []
    here = len(CORRUPTED) - len(missing)
    text = f"{here} of {len(CORRUPTED)} corrupted sets are here; absent{_such(missing)}. Without them there is no mCE"
    return [SetReport("c", str(source.layout.places["c"])).with_problem(text)]


def _labels_of_val(source: ImageNetTree) -> dict[str, int]:
    """Labels of val by image id, where val is here and can be read; what is wrong with it is reported in its turn."""
    try:
        return _labels(source.split("clean"))
    except NsbenchError:
        return {}


def _labels(split: Split) -> dict[str, int]:
    return dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True))


def _such(names: Iterable[str]) -> str:
    """The first few of many names, in brackets."""
    listed = list(names)
    return f" ({', '.join(listed[:SHOWN])}{', ...' if len(listed) > SHOWN else ''})"
