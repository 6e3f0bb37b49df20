"""The results folder: a JSON with its outcomes and pictures per (source, model, method, suite, seed).

The JSON holds the score, its conditions and its provenance, and everything that the report shows, so that the report
needs no suite code; the Parquet table beside it holds what happened to each image. For their names see `parts`.

The JSON is written last and atomically: if it is there, the result is complete. What differs in what was evaluated
never replaces it, nor does anything replace what cannot be read: it stands beside it. A name is chosen and written to
by one process at a time in a folder (`files.alone`, which says what holds on NFS), so that any number of processes may
finish together. What a killed process left is removed by the next one that starts to write to the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from nsbench.errors import ResultError
from nsbench.files import (
    OTHER_RESULTS,
    alone,
    clear_drafts,
    read_regular,
    try_to_write,
    without_collection,
    write_atomically,
    writing,
)
from nsbench.results import outcomes as files
from nsbench.results.parts import (
    alone_parts,
    clear_parts,
    crowded,
    folder_of,
    new_outcomes_path,
    new_samples_path,
    outcomes_path,
    path_of,
)
from nsbench.results.record import SCHEMA, About, Result
from nsbench.results.upgrades import UPGRADES, upgrade
from nsbench.types import Outcomes

PRESENT = b'{\n "schema": %d,' % SCHEMA  # what files of this schema begin with, so that they are parsed once
EXPORT = {"format", "problems", "tables"}  # keys of the JSON that a report writes
Decoded = TypeVar("Decoded")  # what a file of outcomes holds of a condition


@dataclass(frozen=True)
class Found:
    """What the results folder holds of one measurement."""

    result: Result | None = None
    problem: str = ""  # why there is none, where a file that was looked at is broken


def find_result(results: Path, source: str, model: str, method: str, suite: str, seed: int, identity: str) -> Found:
    """The stored result of this very measurement, whole and with its outcomes.

    Raises ResultError where the file that is named by this measurement cannot be read, and so not be replaced.
    """
    folders = dict.fromkeys([results / folder_of(source, model, method), results / source / model / method])
    names = [f"{suite}.seed{seed}.json", f"{suite}.seed{seed}.{identity}.json"]
    problem = ""
    for path in [folder / name for folder in folders for name in names]:  # older versions kept the colon of a name
        if not path.exists():
            continue
        try:
            stored = read_result(path)
        except ResultError as error:
            if path.name == names[1]:
                raise
            problem = problem or str(error)
            continue
        if stored.identity == identity:
            try:
                outcomes_content(stored)
            except ResultError as error:
                problem = str(error)
            else:
                return Found(stored)
    return Found(problem=problem)


def write_result(
    results: Path, result: Result, outcomes: Mapping[str, Outcomes], pictures: bytes | None = None
) -> Result:
    """Store a result with its outcomes, and with the file of `samples.pack_samples`; returns it as it was stored.

    It replaces the same measurement. Raises ResultError if it cannot be stored.
    """
    return keep_result(results, *with_outcomes(result, outcomes), pictures)


def with_outcomes(result: Result, outcomes: Mapping[str, Outcomes]) -> tuple[Result, bytes]:
    """The result as it states these outcomes, and the content of their file."""
    packed = files.pack(outcomes)
    digest = hashlib.sha256(packed).hexdigest()
    return replace(result, outcomes_format="parquet", outcomes_sha256=digest), packed


def keep_result(results: Path, result: Result, outcomes: bytes, pictures: bytes | None = None) -> Result:
    """Store what `with_outcomes` gave, here or in another process; see `write_result`."""
    return _keep(results, result, outcomes, pictures)


def add_result(results: Path, result: Result, outcomes: bytes, record: bytes) -> Result:
    """Store the two files of a result that came from elsewhere, as they are; returns it as it was stored.

    Raises ResultError if they cannot be stored, or where the same measurement is there.
    """
    return _keep(results, result, outcomes, record=record)


def note_available(result: Result, available: Sequence[int]) -> Result:
    """A stored result with the number of images that each condition has without a limit, which old versions kept not.

    Raises ResultError if it cannot be stored.
    """
    if all(one.available is not None for one in result.conditions):
        return result
    conditions = zip(result.conditions, available, strict=True)
    return _noted(replace(result, conditions=tuple(replace(one, available=n) for one, n in conditions)))


def note_about(result: Result, about: About) -> Result:
    """A stored result with these facts about its row, which move no figure. Raises ResultError if it cannot be stored."""
    if result.provenance.about == about:
        return result
    return _noted(replace(result, provenance=replace(result.provenance, about=about)))


def _noted(noted: Result) -> Result:
    """The same measurement with more said of it, in place of the stored one; what replaced that meanwhile stays."""
    folder = path_of(noted).parent
    with _writing(folder), alone(folder):
        held = read_result(path_of(noted))
        if held.outcomes_sha256 != noted.outcomes_sha256:
            return held
        write_atomically(path_of(noted), to_json(noted))
    return noted


def _keep(
    results: Path, result: Result, outcomes: bytes, pictures: bytes | None = None, record: bytes | None = None
) -> Result:
    folder = results / folder_of(result.source, result.model, result.method)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            stored = replace(result, path=_place(folder, result))
            has_old = path_of(stored).exists() or path_of(stored).stem in _parts_left(folder.absolute())
            if record is not None and path_of(stored).exists():
                raise ResultError(f"{stored.path}: is the same measurement, and was added meanwhile")
            write_atomically(new_outcomes_path(stored), outcomes)
            if pictures is not None:
                write_atomically(new_samples_path(stored), pictures)
            write_atomically(path_of(stored), record or to_json(stored))
            if has_old:
                clear_parts(stored)
    return stored


@cache
def _parts_left(folder: Path) -> set[str]:
    """Stems of parts that killed processes left before this one first wrote to a folder, which is listed once for all
    the thousands of results that it may get."""
    return alone_parts(os.listdir(folder))


def _place(folder: Path, result: Result) -> Path:
    """Where the same measurement is, or where nothing is. Raises ResultError where neither can be told."""
    plain = folder / f"{result.suite}.seed{result.seed}.json"
    beside = plain.with_suffix(f".{result.identity}.json")
    if beside.exists():
        if read_result(beside).identity != result.identity:
            raise ResultError(f"{beside}: is named by another measurement than it holds; move it away and run again")
        return beside
    try:
        taken = plain.exists() and read_result(plain).identity != result.identity
    except ResultError:  # it may be a newer version's
        taken = True
    return beside if taken else plain


def read_result(path: Path) -> Result:
    """One stored result, upgraded to the present schema. Raises ResultError naming the file and what is wrong."""
    try:
        content = read_regular(path)
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error})") from error
    try:
        found = replace(parse_result(content), path=path)
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from error
    object.__setattr__(found, "file_sha256", hashlib.sha256(content).hexdigest())
    return found


def parse_result(content: bytes) -> Result:
    """A result file's content, upgraded to the present schema. Raises ResultError naming what is wrong with it."""
    try:
        if content.startswith(PRESENT):
            return _adapter().validate_json(content, strict=True)
        record = json.loads(content)
        schema = record["schema"]
        if schema > SCHEMA:
            raise ResultError(f"schema {schema} is newer than this nsbench knows; update nsbench")
        if schema not in (SCHEMA, *UPGRADES):
            known = f"{min(UPGRADES)} to {SCHEMA}"
            raise ResultError(f"schema {schema!r} is none that nsbench ever wrote ({known}); delete it and run again")
        return typed(record, content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
    raise ResultError(f"is no complete result ({what}); delete it and run again")


def typed(record: dict[str, Any], content: bytes | None = None) -> Result:
    """A parsed result file as the one record, upgraded where it is of an older schema.

    `content`: the JSON that it was parsed from, where it is at hand. Raises whatever an upgrade or pydantic raises.
    """
    if record["schema"] != SCHEMA:
        record, content = upgrade(record), None
    return _adapter().validate_json(content or json.dumps(record), strict=True)


def to_json(result: Result) -> bytes:
    """The content of a result's file."""
    record: dict[str, Any] = _adapter().dump_python(result, mode="json", exclude={"path", "file_sha256"})
    ordered = {"schema": record.pop("schema")} | record
    return (json.dumps(ordered, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


@without_collection()
def read_results(folder: Path) -> tuple[list[Result], list[str]]:
    """All results below a folder, in a stable order, and a line for each file that is no result.

    Hidden files are none, such as the list of a site, and neither is the JSON that `nsbench report` writes.
    """
    results, problems = [], []
    for path in sorted(folder.rglob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            results.append(read_result(path))
        except ResultError as error:
            if not _is_an_export(path):
                problems.append(str(error))
    return results, problems


def _is_an_export(path: Path) -> bool:
    """A table that was written of results, and no result itself."""
    try:
        return set(json.loads(read_regular(path))) == EXPORT
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def outcomes_content(result: Result) -> bytes:
    """The bytes of a stored result's outcomes, checked against its digest. Raises ResultError."""
    if result.path is None:
        raise ResultError(f"{result.method} x {result.suite}: has not been stored, so it has no outcomes file")
    path = outcomes_path(result)
    try:
        content = read_regular(path)
    except OSError as error:
        raise ResultError(f"{path}: the per-image outcomes cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != result.outcomes_sha256:
        raise ResultError(f"{path}: differs from the digest in its result; it was changed or half copied")
    return content


def read_outcomes(result: Result) -> dict[str, Outcomes]:
    """Per-image outcomes by condition. For their order and the errors see `decoded`."""
    return decoded(result, lambda content: files.unpack(content, result.outcomes_format, result.image_ids))


def decoded(result: Result, decode: Callable[[bytes], dict[str, Decoded]]) -> dict[str, Decoded]:
    """What `decode` makes of a stored result's outcomes file: by condition, in the order of the result's conditions.

    Raises ResultError for a file that is absent, changed, no outcomes file (`decode` raises ValueError), or of other
    conditions than the result lists.
    """
    content = outcomes_content(result)
    try:
        conditions = decode(content)
    except ValueError as error:
        raise ResultError(f"{outcomes_path(result)}: {error}") from error
    if list(conditions) != [condition.name for condition in result.conditions]:
        raise ResultError(f"{outcomes_path(result)}: holds other conditions than the result lists")
    return conditions


def ensure_writable(folder: Path) -> None:
    """Fail before the work, not after it. Removes what killed processes left in the results folder."""
    with _writing(folder):
        try_to_write(folder)
        clear_drafts(folder, below=True)
        for place, _, names in os.walk(folder):
            for name in crowded(names):
                _clear(Path(place) / name)


def _clear(path: Path) -> None:
    """Remove what is none of a result's parts; of a result that cannot be read, nothing."""
    with alone(path.parent):
        try:
            stored = read_result(path)
        except ResultError:
            return
        clear_parts(stored)


@cache
def _adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def _writing(folder: Path) -> AbstractContextManager[None]:
    return writing(folder, ResultError, OTHER_RESULTS, what="cannot write results there")
