"""Merging a checked archive into a results folder: nothing that is there is ever replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nsbench.errors import ResultError
from nsbench.results import Result, add_result, ensure_writable, old_outcomes_path, read_outcomes, read_results
from nsbench.submission.archive import Limits, open_archive
from nsbench.submission.check import Rerun, check_archive
from nsbench.submission.values import outcomes_of


@dataclass(frozen=True)
class Merged:
    digest: str
    added: tuple[Path, ...]
    held: tuple[str, ...]  # members whose very measurement is there already, with the same outcomes


def merge(
    archive: Path,
    results_dir: Path,
    *,
    limits: Limits | None = None,
    rerun: Rerun | None = None,
    allow_unknown_data: bool = False,
) -> Merged:
    """Check an archive and add its results. Raises ResultError, and adds nothing, where anything is wrong with it, or
    where a result that is there cannot be read.

    A measurement that is there with the same outcomes is left as it is; with other outcomes it is a conflict. A merge
    that was stopped is run again: what it has added is there with the same outcomes.
    """
    held, broken = read_results(results_dir) if results_dir.is_dir() else ([], [])
    checked = check_archive(
        archive, held=held, broken=broken, limits=limits, rerun=rerun, allow_unknown_data=allow_unknown_data
    )
    if checked.problems:
        others = len(checked.problems) - 1
        raise ResultError(
            f"{archive}: {checked.problems[0]}"
            + (f" (and {others} more: nsbench submit check {archive})" if others else "")
        )
    if checked.not_held_against:
        raise ResultError(
            f"{results_dir}: what it holds cannot be compared with {archive}, nothing was added; repair or move it: "
            f"{checked.not_held_against[0]}"
        )
    files = open_archive(archive, limits).files
    ours = {result.identity: result for result in held}
    wanted, present = [], []
    for result in checked.results:
        assert result.path is not None
        member = result.path.as_posix()
        mine = ours.get(result.identity)
        if mine is None:
            wanted.append((result, files[_outcomes_member(result)], files[member]))
        elif _same_outcomes(mine, result, files[_outcomes_member(result)], limits):
            present.append(member)
        else:
            raise ResultError(
                f"{archive}: {member} is the same measurement as {mine.path} with other outcomes; "
                "one of them is wrong, nothing was added"
            )
    ensure_writable(results_dir)
    added = [add_result(results_dir, *one) for one in wanted]
    return Merged(checked.digest, tuple(one.path for one in added if one.path), tuple(present))


def _outcomes_member(result: Result) -> str:
    """In the archive that a result is of."""
    return old_outcomes_path(result).as_posix()


def _same_outcomes(mine: Result, theirs: Result, content: bytes, limits: Limits | None) -> bool:
    """The same images, labels and predictions; the bytes may be another format's or another library's."""
    if mine.outcomes_sha256 == theirs.outcomes_sha256:
        return True
    ours, others = read_outcomes(mine), outcomes_of(theirs, content, limits or Limits())
    return ours.keys() == others.keys() and all(
        np.array_equal(getattr(ours[name], field), getattr(others[name], field))
        for name in ours
        for field in ("ids", "labels", "predictions")
    )
