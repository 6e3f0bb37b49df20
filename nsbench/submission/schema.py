"""The form of one submitted result: fields, types, lengths, and names that are nothing but names."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nsbench.errors import ResultError
from nsbench.results import SCHEMA, UPGRADES, Result, folder_of
from nsbench.submission.archive import WORD, parse, shown

DEPTH, NODES, TEXT = 8, 100_000, 4000  # nesting, values and characters of one text
Word = Field(pattern=rf"^{WORD}$")
ModelName = Field(pattern=rf"^{WORD}(:{WORD}){{0,2}}$")  # robustbench:NAME:THREAT
Digest = Field(pattern=r"^[0-9a-f]{16}$")
Text = Field(max_length=TEXT)
FIELDS = {*Result.__dataclass_fields__} - {"path", "unit", "lower_is_better"}
NAMES = ("source", "model", "method", "suite", "title", "method_title")  # shown as names


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Score(_Strict):
    value: float
    low: float
    high: float
    n: int = Field(ge=1)
    extra: dict[str, float]
    unit: str = Field(max_length=20)
    lower_is_better: bool


class _Card(BaseModel):
    """Of an attack: what the report and the health flags read."""

    model_config = ConfigDict(extra="allow", strict=True)

    attack: str = Field(max_length=100)
    images: int = Field(ge=0)
    forwards: float = Field(ge=0)
    backwards: float = Field(ge=0)
    seconds: float = Field(ge=0)
    zero_gradients: int = Field(default=0, ge=0)
    looked_at: int = Field(default=0, ge=0)
    norm: str | None = None
    eps: str | None = None
    steps: float = 1
    restarts: float = 1
    library: str = ""


class _Outputs(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    images: int = 0
    probabilities: bool = False
    repeat_change: float = 0


class _Condition(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    name: str = Field(min_length=1, max_length=100)
    split: str = Field(pattern=r"^[A-Za-z0-9_./+-]{1,100}$")
    attack: str | None
    params: dict[str, Any]
    threat: str | None
    preprocess: str = Field(max_length=100)
    n: int = Field(ge=1)
    origin: str = Field(max_length=100)
    data_digest: str = Field(max_length=100)
    accuracy: float = Field(ge=0, le=100)
    attack_card: _Card | None = None


class _Round(BaseModel):
    """Of a training: numbers that the report draws, and which method of a chain it belongs to."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, float | bool | None]

    stage: str = ""


class _Stage(_Strict):
    method: str = Field(max_length=100)
    weights_digest: str = Digest


class _Provenance(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    nsbench: str
    weights_digest: str
    data_digest: str
    preprocessing: str
    normalisation: str
    date: str
    limit: int | None
    recipe: dict[str, Any] | None
    history: list[_Round] = []
    lineage: list[_Stage] = []
    outputs: _Outputs | None = None
    mean: list[float] = []
    std: list[float] = []
    fit_seconds: float | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0)
    forward_equivalents: float | None = Field(default=None, ge=0)
    peak_memory_mib: float | None = Field(default=None, ge=0)
    device: str | None = None
    command: str | None = None
    commit: str | None = None


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)  # other fields of Result are allowed, and no others

    schema_: int = Field(alias="schema", ge=1, le=SCHEMA)
    source: str = Word
    model: str = ModelName
    method: str = Word
    suite: str = Word
    seed: int = Field(ge=0, le=2**63 - 1)
    score: _Score
    title: str = Field(min_length=1, max_length=100)
    group: str = Field(max_length=50)
    order: int
    paper: bool
    suite_version: int
    summary: str = Text
    citation: str = Text
    method_title: str = Field(min_length=1, max_length=100)
    method_summary: str = Text
    method_order: int
    conditions: list[_Condition] = Field(min_length=1, max_length=1000)
    provenance: _Provenance
    identity: str = Digest
    outcomes_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def schema_problems(name: str, content: bytes) -> list[str]:
    """What is wrong with the form of a result, a line each; `name` is its member's name in the archive."""
    try:
        record = parse(content, "it")
    except ResultError as error:
        return [str(error)]
    problems = _safe(record)
    if problems:
        return problems
    try:
        record = upgraded(record)
        _Record.model_validate(record)
    except (KeyError, TypeError, AttributeError) as error:
        return [f"is no result ({type(error).__name__}: {str(error)[:80]})"]
    except ValidationError as error:
        return [f"{'.'.join(map(str, e['loc']))[:100] or 'it'}: {e['msg'][:120]}" for e in error.errors()[:5]]
    unknown = sorted(set(record) - FIELDS)
    return [f"has a field {shown(unknown[0])} that no result has"] if unknown else _misplaced(name, record)


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """The record in the present schema, where it is of an older one that is known."""
    while isinstance(record["schema"], int) and record["schema"] in UPGRADES:
        record = UPGRADES[record["schema"]](record)
    return record


def _misplaced(name: str, record: dict[str, Any]) -> list[str]:
    """Its place in the archive must be the one that its own words give."""
    *folders, file = name.split("/")[1:]
    stem = rf"{re.escape(record['suite'])}\.seed{record['seed']}(\.{record['identity']})?\.json"
    place = folder_of(record["source"], record["model"], record["method"])
    if "/".join(folders) != place or not re.fullmatch(stem, file):
        return [f"stands in another place than that of {record['method']} x {record['suite']}, seed {record['seed']}"]
    if len({condition["name"] for condition in record["conditions"]}) != len(record["conditions"]):
        return ["names a condition twice"]
    return []


def _safe(record: Any) -> list[str]:
    """Texts without control characters, names without markup, finite numbers, bounded size."""
    for count, (path, value, depth) in enumerate(_walk(record, "", 0)):
        where = shown(path or "it")
        if count > NODES or depth > DEPTH:
            return [f"{where}: is larger or deeper than any result"]
        if isinstance(value, str):
            if len(value) > TEXT:
                return [f"{where}: has {len(value):,} characters; at most {TEXT:,} are read"]
            if any(_hidden(character) for character in value):
                return [f"{where}: holds control or invisible characters"]
            if _is_name(path) and any(character in value for character in "<>&\"'`\\{}"):
                return [f"{where}: {shown(value)} holds markup"]
        elif isinstance(value, float) and not math.isfinite(value):
            return [f"{where}: is no finite number"]
        elif isinstance(value, int) and abs(value) >= 2**63:
            return [f"{where}: is larger than any count"]
    return []


def _walk(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any, int]]:
    """Every value with its path; keys are values too."""
    yield path, value, depth
    if depth > DEPTH:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.(key)", key, depth
            yield from _walk(inner, f"{path}.{key}".lstrip("."), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, path, depth + 1)


def _is_name(path: str) -> bool:
    return path in NAMES or path in ("conditions.name", "provenance.recipe.name", "provenance.normalisation")


def _hidden(character: str) -> bool:
    """Control characters, marks that turn the direction of text, halves of characters, private ones."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
