"""The form of one submitted result: safe text, the record of `nsbench.results`, and names that are nothing but names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pydantic import ValidationError

from nsbench.errors import ResultError, is_line
from nsbench.results import SCHEMA, UPGRADES, ConditionResult, Result, typed
from nsbench.submission.archive import WORD, member_folder, parse, printable, shown
from nsbench.types import LARGEST_COUNT, ROLES

DEPTH, NODES, TEXT = 8, 100_000, 4000  # nesting, values and characters of one text
CONDITIONS = 1000
NAMES = ("source", "model", "method", "suite", "title", "method_title")  # shown as names
NAMES_INSIDE = ("conditions.name", "provenance.recipe.name", "provenance.normalisation")


@dataclass(frozen=True)
class Form:
    """What a text must be."""

    words: str
    pattern: re.Pattern[str]


NAME = Form("a name of letters, digits and . _ + = @ -", re.compile(WORD))
WORDS = rf"{WORD}( +{WORD}){{0,9}}"  # a file of one's own may have such a name
MODEL = Form(
    "a model's name, or LIBRARY:NAME:THREAT", re.compile(rf"{WORDS}(:{WORDS}){{0,2}}")
)  # robustbench:NAME:Linf
DIGEST = Form("a digest of 16 hex digits", re.compile(r"[0-9a-f]{16}"))
OLD_DIGEST = Form("a digest of 16 hex digits, or empty", re.compile(r"([0-9a-f]{16})?"))  # old versions kept none
SHA256 = Form("a SHA-256 of 64 hex digits", re.compile(r"[0-9a-f]{64}"))
SPLIT = Form("the name of a split", re.compile(r"[A-Za-z0-9_./+-]{1,100}"))
LABEL = Form("1 to 200 characters", re.compile(r".{1,200}"))
SHORT = Form("at most 20 characters", re.compile(r".{0,20}"))


def submitted_result(name: str, content: bytes) -> tuple[Result | None, list[str]]:
    """A result, upgraded to the present schema, and what is wrong with its form, a line each.

    `name` is its member's name in the archive, which becomes its path. None: it is no result.
    """
    try:
        record = parse(content, "it")
    except ResultError as error:
        return None, [str(error)]
    if problems := _unsafe(record):
        return None, problems
    try:
        result = replace(_typed(record), path=Path(name))
    except ValidationError as error:
        first = error.errors(include_url=False)[:5]
        return None, [f"{'.'.join(map(str, one['loc']))[:100] or 'it'}: {one['msg'][:120]}" for one in first]
    except Exception as error:  # noqa: BLE001  whatever an upgrade makes of a stranger's file, it is no result
        return None, [f"is no result ({type(error).__name__}: {printable(str(error))[:80]})"]
    return result, _odd_words(result)[:5] or _odd_counts(result) or _misplaced(name, result)


def _typed(record: object) -> Result:
    """Raises whatever `results.typed` raises, and for what is no record of a known schema."""
    if not isinstance(record, dict):
        raise TypeError("it holds no fields")
    if record["schema"] not in (SCHEMA, *UPGRADES):
        raise ValueError(f"schema {record['schema']} is not known here; update nsbench")
    return typed(record)


# --- what only a submission must keep to ----------------------------------------------------------------------------


def _odd_words(result: Result) -> list[str]:
    problems = [
        f"{field}: {shown(text)} is not {form.words}"
        for field, text, form in _forms(result)
        if text is not None and not form.pattern.fullmatch(text)
    ]
    if result.method_role not in ROLES:
        problems.append(f"method_role: {shown(result.method_role)} is none of {', '.join(map(repr, ROLES))}")
    return problems


def _forms(result: Result) -> Iterator[tuple[str, str | None, Form]]:
    """Every text of a certain form: where it stands, the text, the form. None: there is none."""
    yield "source", result.source, NAME
    yield "model", result.model, MODEL
    yield "method", result.method, NAME
    yield "suite", result.suite, NAME
    yield "identity", result.identity, DIGEST
    yield "outcomes_sha256", result.outcomes_sha256, SHA256
    yield "unit", result.unit, SHORT
    for field in ("title", "method_title", "group"):
        yield field, getattr(result, field), LABEL
    for index, condition in enumerate(result.conditions):
        for field, text, form in _condition_forms(condition):
            yield f"conditions.{index}.{field}", text, form
    own = result.provenance
    yield "provenance.weights_digest", own.weights_digest, DIGEST
    yield "provenance.data_digest", own.data_digest, DIGEST
    yield "provenance.parent_digest", own.parent_digest, OLD_DIGEST
    yield "provenance.fit_key", own.fit_key, OLD_DIGEST
    for index, stage in enumerate(own.lineage):
        yield f"provenance.lineage.{index}.method", stage.method, NAME
        yield f"provenance.lineage.{index}.weights_digest", stage.weights_digest, DIGEST


def _condition_forms(condition: ConditionResult) -> Iterator[tuple[str, str | None, Form]]:
    yield "name", condition.name, LABEL
    yield "split", condition.split, SPLIT
    yield "attack", condition.attack, LABEL
    yield "preprocess", condition.preprocess, LABEL
    yield "origin", condition.origin, LABEL
    yield "data_digest", condition.data_digest, DIGEST
    yield "content_digest", condition.content_digest, DIGEST
    yield "surrogate_digest", condition.surrogate_digest, DIGEST


def _odd_counts(result: Result) -> list[str]:
    if len(result.conditions) > CONDITIONS:
        return [f"lists {len(result.conditions):,} conditions; at most {CONDITIONS:,} are read"]
    if len({condition.name for condition in result.conditions}) != len(result.conditions):
        return ["names a condition twice"]
    problems = []
    if result.score.n < 1:
        problems.append("score.n: there is no image")
    for condition in result.conditions:
        card = condition.attack_card
        if card and not card.zero_gradients <= card.looked_at <= card.images <= condition.n:
            problems.append(
                f"condition {shown(condition.name)}: its attack card counts {card.zero_gradients:,} of "
                f"{card.looked_at:,} of {card.images:,} of {condition.n:,} images"
            )
        problems += _odd_course(condition)
        evaluated, limit = condition.n + len(condition.unreadable), result.provenance.limit
        if condition.available is not None and evaluated != min(condition.available, limit or condition.available):
            problems.append(
                f"condition {shown(condition.name)}: says that {condition.available:,} images were available, and has "
                f"{evaluated:,} of them with {f'a limit of {limit:,}' if limit else 'no limit'}"
            )
    return problems[:5]


def _odd_course(condition: ConditionResult) -> list[str]:
    """Of an attack that tells its course: iterations rise, images that are still right fall, and none are invented."""
    card = condition.attack_card
    course = card.still_right if card else ()
    rises = all(a.iteration < b.iteration and a.images >= b.images for a, b in pairwise(course))
    ended = card.convergence if card else None
    most = max([*(one.images for one in course), ended.unbroken if ended else 0])
    of_unbroken = ended is None or max(ended.falling, ended.within_reach or 0) <= ended.unbroken
    if card and (not rises or not of_unbroken or most > card.images):
        return [f"condition {shown(condition.name)}: its attack card tells a course that cannot be"]
    return []


def _misplaced(name: str, result: Result) -> list[str]:
    """Its place in the archive must be the one that its own words give."""
    folder, _, file = name.rpartition("/")
    stem = rf"{re.escape(result.suite)}\.seed{result.seed}(\.{result.identity})?\.json"
    if folder != member_folder(result.source, result.model, result.method) or not re.fullmatch(stem, file):
        return [f"stands in another place than that of {result.method} x {result.suite}, seed {result.seed}"]
    return []


# --- text that is safe to show --------------------------------------------------------------------------------------


def _unsafe(record: object) -> list[str]:
    """Texts with control characters, names with markup, numbers that are not finite, a record of unbounded size."""
    for count, (path, value, depth) in enumerate(_walk(record, "", 0)):
        where = shown(path or "it")
        if count > NODES or depth > DEPTH:
            return [f"{where}: is larger or deeper than any result"]
        if isinstance(value, str):
            if len(value) > TEXT:
                return [f"{where}: has {len(value):,} characters; at most {TEXT:,} are read"]
            if not is_line(value):
                return [f"{where}: holds control or invisible characters"]
            if path in NAMES + NAMES_INSIDE and any(character in value for character in "<>&\"'`\\{}"):
                return [f"{where}: {shown(value)} holds markup"]
        elif isinstance(value, float) and not math.isfinite(value):
            return [f"{where}: is no finite number"]
        elif isinstance(value, int | float) and abs(value) > LARGEST_COUNT:
            return [f"{where}: is larger than any count"]
    return []


def _walk(value: object, path: str, depth: int) -> Iterator[tuple[str, object, int]]:
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
