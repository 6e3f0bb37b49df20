"""The results folder: one JSON and one outcomes file per (source, model, method, suite, seed).

`<results>/<source>/<model>/<method>/<suite>.seed<k>.json` holds the score, its conditions and its provenance, and
everything that the report shows, so that the report needs no suite code. `<same stem>.npz` holds what happened to
each image. The JSON is written last and atomically: if it is there, the result is complete. A result that differs
from the stored one in what was evaluated (limit, recipe, weights, ...) never replaces it: it gets its identity as a
suffix and stands beside it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from nsbench.errors import ResultError
from nsbench.files import write_atomically
from nsbench.types import Outcomes, Score

SCHEMA = 1
UPGRADES: dict[int, Callable[[dict], dict]] = {}  # from schema k to k + 1


@dataclass(frozen=True)
class Result:
    """One figure of the leaderboard with all that is needed to show, compare and trust it."""

    source: str
    model: str
    method: str
    suite: str
    seed: int
    score: Score
    unit: str
    lower_is_better: bool
    title: str  # of the suite: the column head
    group: str
    order: int
    paper: bool  # one of the paper's eleven columns
    suite_version: int
    summary: str  # the suite's protocol
    citation: str
    method_title: str
    method_summary: str
    method_order: int
    # each: name, split, attack, params, threat, preprocess, n, origin, data_digest, accuracy
    conditions: list[dict[str, Any]]
    provenance: dict[str, Any]
    identity: str  # digest of everything that was evaluated; equal identities are the same measurement
    schema: int = SCHEMA
    outcomes_sha256: str = ""
    path: Path | None = field(default=None, compare=False)

    def outcomes(self) -> dict[str, Outcomes]:
        """Per-image outcomes by condition name, checked against the digest in the result."""
        if self.path is None:
            raise ResultError(f"{self.method} x {self.suite}: has not been stored, so it has no outcomes file")
        return _read_outcomes(self.path.with_suffix(".npz"), self.outcomes_sha256, self.conditions)


def folder_of(source: str, model: str, method: str) -> str:
    """Where results lie, with a name for the folder that every system and archive can hold: "robustbench@Name" for the
    model robustbench:Name. What a result is called stands in the result."""
    return f"{source}/{model}/{method}".replace(":", "@")


def find_result(
    results: Path,
    source: str,
    model: str,
    method: str,
    suite: str,
    seed: int,
    identity: str,
) -> Result | None:
    """The stored result of this very measurement, or None. An unreadable file counts as absent."""
    folders = dict.fromkeys([results / folder_of(source, model, method), results / source / model / method])
    names = [f"{suite}.seed{seed}.json", f"{suite}.seed{seed}.{identity}.json"]
    for path in [folder / name for folder in folders for name in names]:  # older versions kept the colon of a name
        try:
            stored = read_result(path)
        except ResultError:
            stored = None
        if stored and stored.identity == identity and path.with_suffix(".npz").is_file():
            return stored
    return None


def write_result(results: Path, result: Result, outcomes: Mapping[str, Outcomes]) -> Path:
    """Store a result and its outcomes; returns the path of the JSON. Raises ResultError if it cannot."""
    folder = results / folder_of(result.source, result.model, result.method)
    packed = _pack_outcomes(outcomes)
    with _io_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = _free_path(folder, result)
        write_atomically(path.with_suffix(".npz"), packed)
        record = _to_json(result) | {"outcomes_sha256": hashlib.sha256(packed).hexdigest()}
        write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return path


def read_result(path: Path) -> Result:
    """One stored result, upgraded to the present schema. Raises ResultError naming the file and what is wrong."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        while record["schema"] < SCHEMA:
            record = UPGRADES[record["schema"]](record)
        if record["schema"] > SCHEMA:
            raise ResultError(f"{path}: schema {record['schema']} is newer than this nsbench knows; update nsbench")
        return _from_json(record, path)
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f"{path}: cannot be read ({error})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(
            f"{path}: is no complete result ({type(error).__name__}: {error}); delete it and run again"
        ) from error


def read_results(folder: Path) -> tuple[list[Result], list[str]]:
    """All results below a folder, in a stable order, and a line for each file that is no result."""
    found, problems = [], []
    for path in sorted(folder.rglob("*.json")):
        try:
            found.append(read_result(path))
        except ResultError as error:
            problems.append(str(error))
    return found, problems


def ensure_writable(folder: Path) -> None:
    """Fail before the work, not after it."""
    with _io_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass


def _free_path(folder: Path, result: Result) -> Path:
    plain = folder / f"{result.suite}.seed{result.seed}.json"
    try:
        taken = read_result(plain).identity != result.identity
    except ResultError:
        taken = False  # absent or broken: the plain name is ours
    return plain.with_suffix(f".{result.identity}.json") if taken else plain


@contextmanager
def _io_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultError(
            f"{folder}: cannot write results there ({error.strerror or error}); "
            "free some space or choose another folder with --results"
        ) from error


_SCORE_FIELDS = ("value", "low", "high", "n", "extra")


def _to_json(result: Result) -> dict[str, Any]:
    record = asdict(result)
    del record["path"]
    record["score"] |= {"unit": record.pop("unit"), "lower_is_better": record.pop("lower_is_better")}
    return {"schema": record.pop("schema")} | record


def _from_json(record: dict[str, Any], path: Path) -> Result:
    score = record.pop("score")
    fields = {key: record[key] for key in Result.__dataclass_fields__ if key in record}
    fields["score"] = Score(**{key: score[key] for key in _SCORE_FIELDS})
    if not all(np.isfinite([fields["score"].value, fields["score"].low, fields["score"].high])):
        raise ValueError("the score is not a finite number")
    return Result(**fields, unit=score["unit"], lower_is_better=score["lower_is_better"], path=path)


def _pack_outcomes(outcomes: Mapping[str, Outcomes]) -> bytes:
    """npz: image sets that several conditions share (ids and labels) are stored once."""
    arrays: dict[str, np.ndarray] = {"conditions": np.array(list(outcomes), dtype=np.str_)}
    sets: dict[str, int] = {}
    members = []
    for index, outcome in enumerate(outcomes.values()):
        ids = np.char.encode(outcome.ids.astype(np.str_), "utf-8")
        key = hashlib.sha256(ids.tobytes() + outcome.labels.tobytes()).hexdigest()
        if key not in sets:
            sets[key] = len(sets)
            arrays[f"set{sets[key]}.ids"], arrays[f"set{sets[key]}.labels"] = ids, _small(outcome.labels)
        members.append(sets[key])
        arrays[f"{index}.predictions"] = _small(outcome.predictions)
        for name, values in outcome.extra.items():
            arrays[f"{index}.extra.{name}"] = _small(values)
    arrays["sets"] = np.array(members, dtype=np.int32)
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _small(values: np.ndarray) -> np.ndarray:
    """The smallest integer type that holds the values; floats in single precision."""
    if values.dtype.kind in "iu" and values.size:
        return values.astype(np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max())))
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _read_outcomes(path: Path, sha256: str, conditions: Sequence[Mapping[str, Any]]) -> dict[str, Outcomes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ResultError(f"{path}: the per-image outcomes cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ResultError(f"{path}: differs from the digest in its result; it was changed or half copied")
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return {str(condition["name"]): _outcomes(arrays, index) for index, condition in enumerate(conditions)}


def _outcomes(arrays: Any, index: int) -> Outcomes:
    images = f"set{arrays['sets'][index]}"
    prefix = f"{index}.extra."
    return Outcomes(
        ids=np.char.decode(arrays[f"{images}.ids"], "utf-8"),
        labels=arrays[f"{images}.labels"].astype(np.int64),
        predictions=arrays[f"{index}.predictions"].astype(np.int64),
        extra={name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)},
    )
