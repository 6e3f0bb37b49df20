"""Merging a checked archive into a results folder: nothing that is there is ever replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nsbench.errors import ResultError
from nsbench.files import write_atomically
from nsbench.results import folder_of, read_results
from nsbench.submission.archive import Limits, open_archive
from nsbench.submission.check import Rerun, check


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
    checked = check(archive, held=held, limits=limits, rerun=rerun)
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
        stem = f"results/{folder_of(result.source, result.model, result.method)}/{result.path.stem}"
        mine = ours.get(result.identity)
        if mine is None:
            wanted.append((_free(results_dir / f"{stem.removeprefix('results/')}.json", result.identity), stem))
        elif mine.outcomes_sha256 == result.outcomes_sha256:
            present.append(f"{stem}.json")
        else:
            raise ResultError(
                f"{archive}: {stem}.json is the same measurement as {mine.path} with other outcomes; "
                "one of them is wrong, nothing was added"
            )
    for path, stem in wanted:
        _add(path, files[f"{stem}.json"], files[f"{stem}.npz"])
    return Merged(checked.digest, tuple(path for path, _ in wanted), tuple(present))


def _free(plain: Path, identity: str) -> Path:
    """The plain name, or the one with the identity where another measurement has it."""
    beside = plain.with_name(
        f"{plain.name.split('.seed')[0]}.seed{plain.name.split('.seed')[1].split('.')[0]}.{identity}.json"
    )
    for path in (plain, beside):
        if not path.exists() and not path.with_suffix(".npz").exists():
            return path
    raise ResultError(f"{beside}: is there already, with another content; nothing was added")


def _add(path: Path, record: bytes, outcomes: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path.with_suffix(".npz"), outcomes)
        write_atomically(path, record)
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or choose another "
            "folder with --results"
        ) from error
