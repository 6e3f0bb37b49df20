"""Merging a checked archive into a results folder: nothing that is there is ever replaced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nsbench.errors import ResultError
from nsbench.files import OTHER_RESULTS, write_atomically, writing
from nsbench.results import Result, folder_of, outcomes_path, read_outcomes, read_results
from nsbench.submission.archive import Limits, open_archive
from nsbench.submission.check import Rerun, check_archive
from nsbench.submission.values import outcomes_of


@dataclass(frozen=True)
class Merged:
    digest: str
    added: tuple[Path, ...]
    held: tuple[str, ...]  # members whose very measurement is there already, with the same outcomes


def merge(archive: Path, results_dir: Path, *, limits: Limits | None = None, rerun: Rerun | None = None) -> Merged:
    """Check an archive and add its results. Raises ResultError, and adds nothing, where anything is wrong with it.

    A measurement that is there with the same outcomes is left as it is; with other outcomes it is a conflict.
    """
    held = read_results(results_dir)[0] if results_dir.is_dir() else []
    checked = check_archive(archive, held=held, limits=limits, rerun=rerun)
    if checked.problems:
        others = len(checked.problems) - 1
        raise ResultError(
            f"{archive}: {checked.problems[0]}"
            + (f" (and {others} more: nsbench submit check {archive})" if others else "")
        )
    files = open_archive(archive, limits).files
    ours = {result.identity: result for result in held}
    wanted, present = [], []
    for result in checked.results:
        assert result.path is not None
        member = result.path.as_posix()
        mine = ours.get(result.identity)
        if mine is None:
            place = results_dir / folder_of(result.source, result.model, result.method)
            contents = files[member], files[_outcomes_member(result)]
            wanted.append((replace(result, path=_free(place, result)), contents))
        elif _same_outcomes(mine, result, files[_outcomes_member(result)], limits):
            present.append(member)
        else:
            raise ResultError(
                f"{archive}: {member} is the same measurement as {mine.path} with other outcomes; "
                "one of them is wrong, nothing was added"
            )
    for result, contents in wanted:
        _add(result, *contents)
    return Merged(checked.digest, tuple(one.path for one, _ in wanted if one.path), tuple(present))


def _outcomes_member(result: Result) -> str:
    """In the archive that a result is of."""
    return outcomes_path(result).as_posix()


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


def _free(folder: Path, result: Result) -> Path:
    """The plain name, or the one with the identity where another measurement has it."""
    stem = f"{result.suite}.seed{result.seed}"
    for path in (folder / f"{stem}.json", folder / f"{stem}.{result.identity}.json"):
        if not any(path.with_suffix(suffix).exists() for suffix in (".json", ".parquet", ".npz")):
            return path
    raise ResultError(f"{path}: is there already, with another content; nothing was added")


def _add(result: Result, record: bytes, outcomes: bytes) -> None:
    assert result.path is not None
    with writing(result.path, ResultError, OTHER_RESULTS):
        write_atomically(outcomes_path(result), outcomes)
        write_atomically(result.path, record)
