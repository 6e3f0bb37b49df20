"""Where the parts of a stored result lie: its JSON, the outcomes of each image, and a few pictures.

`<results>/<source>/<model>/<method>/<suite>.seed<k>.json` is the result of this name that was stored first; another
measurement (limit, recipe, weights, ...) gets its identity as a suffix, `<suite>.seed<k>.<identity>.json`. Beside it
lie `<same stem>.outcomes.<digest>.parquet` and `<same stem>.samples.<digest>.zip`, named by the digest of the outcomes
that the JSON states. So the outcomes of two runs of one measurement, which may differ in the last bits of a float, are
never mixed, and what replaces a result needs one rename. Before they were named by it, the outcomes were `<same
stem>.parquet` (`.npz` beside results of schema 1) and the pictures `<same stem>.samples.zip`; these are read as well,
and archives of submissions still name the outcomes so.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from nsbench.errors import ResultError
from nsbench.results.record import Result

DIGITS = 16  # of the outcomes' digest, in the names of files
PART = re.compile(
    rf"(?P<stem>.+?)\.((outcomes\.[0-9a-f]{{{DIGITS}}}\.(parquet|npz))|(?P<pictures>samples\.[0-9a-f]{{{DIGITS}}}\.zip)"
    r"|parquet|npz|(?P<old_pictures>samples\.zip))"
)


def folder_of(source: str, model: str, method: str) -> str:
    """Where results lie, with a name for the folder that every system and archive can hold: "robustbench@Name" for the
    model robustbench:Name. What a result is called stands in the result."""
    return f"{source}/{model}/{method}".replace(":", "@")


def turn_path(results: Path, source: str, model: str, method: str, identity: str) -> Path:
    """The file that is there as long as a process makes this result."""
    return results / folder_of(source, model, method) / f".{identity}.turn"


def path_of(result: Result) -> Path:
    """The JSON of a stored result. Raises ResultError for one that has not been stored."""
    if result.path is None:
        raise ResultError(f"{result.method} x {result.suite}: has not been stored")
    return result.path


def new_outcomes_path(result: Result) -> Path:
    """Where the outcomes of a result are stored now."""
    return path_of(result).with_suffix(f".outcomes.{result.outcomes_sha256[:DIGITS]}.{result.outcomes_format}")


def old_outcomes_path(result: Result) -> Path:
    """Where they were before their digest was in their name, and where they are in an archive."""
    return path_of(result).with_suffix(f".{result.outcomes_format}")


def outcomes_path(result: Result) -> Path:
    """The file of a stored result's outcomes."""
    return _first_there(new_outcomes_path(result), old_outcomes_path(result))


def new_samples_path(result: Result) -> Path:
    """Where the pictures of a result are stored now."""
    return path_of(result).with_suffix(f".samples.{result.outcomes_sha256[:DIGITS]}.zip")


def samples_path(result: Result) -> Path:
    """The file of a stored result's pictures, which not every result has."""
    return _first_there(new_samples_path(result), path_of(result).with_suffix(".samples.zip"))


def _first_there(path: Path, old: Path) -> Path:
    return old if not path.exists() and old.exists() else path


def clear_parts(result: Result) -> None:
    """Remove what lies beside a stored result under its name and is none of its parts. Raises OSError."""
    path, own = path_of(result), {outcomes_path(result).name, samples_path(result).name}
    for name in os.listdir(path.parent):
        part = PART.fullmatch(name)
        if part and part["stem"] == path.stem and name not in own:
            (path.parent / name).unlink(missing_ok=True)


def alone_parts(names: Iterable[str]) -> set[str]:
    """Of a folder's files: the stems of parts whose JSON is not there, which a kill leaves so."""
    names = set(names)
    stems = {part["stem"] for part in map(PART.fullmatch, names) if part}
    return {stem for stem in stems if f"{stem}.json" not in names}


def crowded(names: Iterable[str]) -> list[str]:
    """Of a folder's files: the JSONs with more than one file of outcomes, or of pictures, which a kill leaves so."""
    counts: dict[tuple[str, bool], int] = defaultdict(int)
    for part in filter(None, map(PART.fullmatch, names)):
        counts[part["stem"], bool(part["pictures"] or part["old_pictures"])] += 1
    return sorted({f"{stem}.json" for (stem, _), count in counts.items() if count > 1})
