"""Is a source with classes of its own what it should be? Every class evaluated, every picture readable and read, and
nothing that is trained on evaluated as well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nsbench.data.manifest import Manifest, manifest
from nsbench.data.own import OwnSource
from nsbench.data.source import Split, Subset, require_its_classes
from nsbench.data.stored import StoredSplit
from nsbench.data.unread import unread_words
from nsbench.errors import NsbenchError
from nsbench.making.check_images import check_accuracy, check_contents
from nsbench.making.findings import Report, SetReport
from nsbench.models import Model
from nsbench.progress import SILENT, Progress


def check_own(
    root: Path,
    *,
    model: Model | None = None,
    limit: int = 500,
    read: bool = True,
    workers: int = 0,
    follow_links: bool = False,
    progress: Progress = SILENT,
) -> Report:
    """Check images of one's own classes. For the arguments see `check_sets`. Raises DataError where there are none."""
    source = OwnSource(root, follow_links=follow_links)
    if model is not None:
        require_its_classes(source, model.name, model.num_classes)
    sets, contents = [], dict[str, Manifest]()
    for name in ("train", "clean"):
        if name == "train" and source.parts.train is None:
            continue
        report, split = _listed(source, name, progress)
        try:
            if split is not None and read:
                contents[name] = manifest(_stored(split), progress)
                report = check_contents(report, contents[name])
            if split is not None and model is not None:
                report = check_accuracy(report, split.limited(limit), model, workers, progress)
        except NsbenchError as error:
            report = report.with_problem(str(error))
        progress.line(f"{name}: {report.state}", style="dim")
        sets.append(report)
    if source.parts.clean is not None and len(contents) == 2:
        sets[-1] = _apart(sets[-1], contents)
    return Report(str(root), tuple(sets), (), model.name if model else None)


def _listed(source: OwnSource, name: str, progress: Progress) -> tuple[SetReport, Split | None]:
    """What can be said without opening a picture, and the split, where there is one."""
    report = SetReport(name, str(source.root))
    try:
        split = source.split(name, progress)
    except NsbenchError as error:
        return report.with_problem(str(error)), None
    labels = np.unique(split.labels)
    absent = tuple(one for label, one in enumerate(source.class_names) if label not in labels)
    report = replace(report, images=len(split), classes=len(labels), absent_classes=absent, complete=not absent,
                     digest=split.digest, origin=split.origin)  # fmt: skip
    if absent and name == "clean":
        report = report.with_note(f"{len(absent)} of {len(source.class_names)} classes are not evaluated: {absent[0]}")
    words = unread_words(split)
    return report.with_problem(words) if words else report, split


def _stored(split: Split) -> StoredSplit:
    """All images that it was divided from."""
    whole = split.base if isinstance(split, Subset) else split
    assert isinstance(whole, StoredSplit)
    return whole


def _apart(report: SetReport, contents: dict[str, Manifest]) -> SetReport:
    """The report of what is evaluated, with pictures that are trained on as well: the same bytes."""
    trained = {row.tobytes() for row in contents["train"].rows["sha"]}
    both = [k for k, row in enumerate(contents["clean"].rows["sha"]) if row.tobytes() in trained and row.any()]
    if not both:
        return report
    return report.with_problem(
        f"{len(both):,} of {len(contents['clean'].ids):,} images are in train too, byte by byte, such as "
        f"{contents['clean'].ids[both[0]]}: what is trained on says nothing when it is evaluated; take them out of one part"
    )
