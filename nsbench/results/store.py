"""The results folder: one JSON and one outcomes file per (source, model, method, suite, seed).

`<results>/<source>/<model>/<method>/<suite>.seed<k>.json` holds the score, its conditions and its provenance, and
everything that the report shows, so that the report needs no suite code. `<same stem>.parquet` holds what happened to
each image (`.npz` beside results of schema 1). The JSON is written last and atomically: if it is there, the result is
complete. A result that differs from the stored one in what was evaluated (limit, recipe, weights, ...) never replaces
it: it gets its identity as a suffix and stands beside it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from nsbench.errors import ResultError
from nsbench.files import OTHER_RESULTS, write_atomically, writing
from nsbench.results import outcomes as files
from nsbench.results.record import SCHEMA, Result
from nsbench.results.upgrades import upgrade
from nsbench.types import Outcomes

Decoded = TypeVar("Decoded")  # what a file of outcomes holds of a condition


def folder_of(source: str, model: str, method: str) -> str:
    """Where results lie, with a name for the folder that every system and archive can hold: "robustbench@Name" for the
    model robustbench:Name. What a result is called stands in the result."""
    return f"{source}/{model}/{method}".replace(":", "@")


def find_result(
    results: Path, source: str, model: str, method: str, suite: str, seed: int, identity: str
) -> Result | None:
    """The stored result of this very measurement, or None. An unreadable file counts as absent."""
    folders = dict.fromkeys([results / folder_of(source, model, method), results / source / model / method])
    names = [f"{suite}.seed{seed}.json", f"{suite}.seed{seed}.{identity}.json"]
    for path in [folder / name for folder in folders for name in names]:  # older versions kept the colon of a name
        try:
            stored = read_result(path)
        except ResultError:
            continue
        if stored.identity == identity and outcomes_path(stored).is_file():
            return stored
    return None


def write_result(results: Path, result: Result, outcomes: Mapping[str, Outcomes]) -> Result:
    """Store a result and its outcomes; returns it as it was stored. Raises ResultError if it cannot be."""
    folder = results / folder_of(result.source, result.model, result.method)
    packed = files.pack(outcomes)
    with _writing(folder):
        stored = replace(
            result,
            path=_free_path(folder, result),
            outcomes_format="parquet",
            outcomes_sha256=hashlib.sha256(packed).hexdigest(),
        )
        write_atomically(outcomes_path(stored), packed)
        write_atomically(_path(stored), to_json(stored))
    return stored


def read_result(path: Path) -> Result:
    """One stored result, upgraded to the present schema. Raises ResultError naming the file and what is wrong."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error})") from error
    try:
        return replace(parse_result(content), path=path)
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from error


def parse_result(content: bytes) -> Result:
    """A result file's content, upgraded to the present schema. Raises ResultError naming what is wrong with it."""
    try:
        record = json.loads(content)
        if record["schema"] > SCHEMA:
            raise ResultError(f"schema {record['schema']} is newer than this nsbench knows; update nsbench")
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
    record: dict[str, Any] = _adapter().dump_python(result, mode="json", exclude={"path"})
    ordered = {"schema": record.pop("schema")} | record
    return (json.dumps(ordered, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_results(folder: Path) -> tuple[list[Result], list[str]]:
    """All results below a folder, in a stable order, and a line for each file that is no result."""
    results, problems = [], []
    for path in sorted(folder.rglob("*.json")):
        try:
            results.append(read_result(path))
        except ResultError as error:
            problems.append(str(error))
    return results, problems


def outcomes_path(result: Result) -> Path:
    """The file of a stored result's outcomes."""
    return _path(result).with_suffix(f".{result.outcomes_format}")


def outcomes_content(result: Result) -> bytes:
    """The bytes of a stored result's outcomes, checked against its digest. Raises ResultError."""
    if result.path is None:
        raise ResultError(f"{result.method} x {result.suite}: has not been stored, so it has no outcomes file")
    path = outcomes_path(result)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ResultError(f"{path}: the per-image outcomes cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != result.outcomes_sha256:
        raise ResultError(f"{path}: differs from the digest in its result; it was changed or half copied")
    return content


def read_outcomes(result: Result) -> dict[str, Outcomes]:
    """Per-image outcomes by condition. For their order and the errors see `decoded`."""
    return decoded(result, lambda content: files.unpack(content, result.outcomes_format))


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
    """Fail before the work, not after it."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass


@cache
def _adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def _path(result: Result) -> Path:
    if result.path is None:
        raise ResultError(f"{result.method} x {result.suite}: has not been stored")
    return result.path


def _free_path(folder: Path, result: Result) -> Path:
    plain = folder / f"{result.suite}.seed{result.seed}.json"
    try:
        taken = read_result(plain).identity != result.identity
    except ResultError:
        taken = plain.exists()  # what cannot be read may be a newer version's: it is never replaced
    return plain.with_suffix(f".{result.identity}.json") if taken else plain


def _writing(folder: Path) -> AbstractContextManager[None]:
    return writing(folder, ResultError, OTHER_RESULTS, what="cannot write results there")
