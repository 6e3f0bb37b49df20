"""The page of `nsbench check --explain`: the images whose outcome changed, with what they show and what was said."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsbench.errors import NsbenchError, ResultError
from nsbench.files import write_atomically, writing
from nsbench.regression.records import BaselineCheck, SuiteCheck
from nsbench.regression.words import HEADS, explanation, headline, notes, row

if TYPE_CHECKING:
    from nsbench.data import DataSource

MOST = 24  # pictures of lost images per suite, and as many of won ones
SIDE = 160  # pixels of a larger picture's longer side
NAMED = 4  # conditions that are listed by name


@dataclass(frozen=True)
class Flip:
    """One image with another outcome."""

    image: str  # id
    label: str
    was: str  # "right", "wrong", or under how many conditions right
    now: str  # "circle", or under how many conditions right
    conditions: str  # those that flipped, where the suite has several
    picture: str  # a data URI; "" where the image is not at hand


@dataclass(frozen=True)
class Section:
    """One suite of one method."""

    suite: SuiteCheck
    line: str
    attacked: bool  # the pictures are from before the attack
    lost: list[Flip] = field(default_factory=list)
    won: list[Flip] = field(default_factory=list)
    left_out: int = 0


def write_explanation(check: BaselineCheck, out: Path, data: str = "shapes10", follow_links: bool = False) -> Path:
    """Write the page; returns the file. `data` is where the images lie; without them the page has no pictures.

    `follow_links`: links in the data may lead out of their set. Raises ResultError where the file cannot be written.
    """
    page = to_html(check, _open(check, data, follow_links))
    with writing(out, ResultError, "choose another --explain"):
        write_atomically(out, page.encode())
    return out


def to_html(check: BaselineCheck, source: DataSource | None) -> str:
    """The page as text; every value is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders = [Path(__file__).parent / "templates", Path(__file__).parent.parent / "report" / "page" / "templates"]
    environment = Environment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [_section(c, source) for c in check.suites if len(c.lost) or len(c.won) or c.reason]
    return environment.get_template("explain.html.j2").render(
        check=check,
        heads=HEADS,
        rows=[(c, row(c)) for c in check.suites],
        sections=sections,
        headline=headline(check),
        notes=notes(check),
        pictures=source is not None,
    )


def _open(check: BaselineCheck, data: str, follow_links: bool) -> DataSource | None:
    """The images of the check, if `data` is the source that they come from."""
    from nsbench.run.opening import open_source

    try:
        source = open_source(data, follow_links=follow_links)
    except NsbenchError:
        return None
    return source if source.name in {c.before.source for c in check.suites if c.before} else None


def _section(suite: SuiteCheck, source: DataSource | None) -> Section:
    before = suite.before
    if before is None or suite.after is None:
        return Section(suite, explanation(suite), False)
    lost, won = ([_flip(suite, image, source) for image in ids[:MOST].tolist()] for ids in (suite.lost, suite.won))
    left_out = len(suite.lost) + len(suite.won) - len(lost) - len(won)
    return Section(suite, explanation(suite), before.definition.attacked, lost, won, left_out)


def _flip(suite: SuiteCheck, image: str, source: DataSource | None) -> Flip:
    before, after = suite.before, suite.after
    assert before is not None
    assert after is not None
    at = int(np.searchsorted(before.images.ids, image))
    label = int(before.images.labels[at])
    changed = np.flatnonzero(before.right_CN[:, at] != after.right_CN[:, at])
    scored = np.flatnonzero(np.asarray(before.definition.weights) != 0)
    if len(scored) == 1:
        predicted = after.predictions_CN[scored[0], at] if after.predictions_CN is not None else None
        was = "right" if before.right_CN[scored[0], at] else "wrong"
        now = _class(source, int(predicted)) if predicted is not None else "?"
        conditions = ""
    else:
        was, now = (f"right in {int(entry.right_CN[scored, at].sum())} of {len(scored)}" for entry in (before, after))
        conditions = ", ".join(before.definition.conditions[k] for k in changed[:NAMED])
        conditions += f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    shown = scored[np.isin(scored, changed)][0]
    split = before.definition.splits[before.definition.conditions[shown]]
    return Flip(image, _class(source, label), was, now, conditions, _picture(source, split, image))


def _class(source: DataSource | None, index: int) -> str:
    names = source.class_names if source is not None else ()
    return str(names[index]) if 0 <= index < len(names) else f"class {index}"


def _picture(source: DataSource | None, split_name: str, image: str) -> str:
    """A data URI of the picture, at most SIDE pixels wide and high; "" where it cannot be had."""
    if source is None:
        return ""
    try:
        split = source.split(split_name)
        index = np.flatnonzero(split.ids == image)
        picture = split.load(int(index[0])) if len(index) else None
    except NsbenchError:
        return ""
    if picture is None:
        return ""
    picture.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
