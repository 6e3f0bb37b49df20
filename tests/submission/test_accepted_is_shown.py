"""Whatever `submit check` accepts, the page and the terminal show."""

import copy
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from submissions import only, problems
from tampering import (
    METHODS,
    SUITES,
    all_right,
    archived,
    as_a_whole,
    honest,
    predicted,
    redone,
    with_provenance,
    without,
)

from nsbench.cli import main
from nsbench.results import read_results
from nsbench.submission import merge, open_archive
from nsbench.submission.pack import archive_of

ABSENT = object()
VALUES = [None, True, 0, 1, -1, 0.5, 1e300, "", "x", "é" * 190, [], ["x"], {}, {"x": 1}, ABSENT]


def paths(value, path=()):
    """Of everything inside a parsed JSON."""
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in children:
        yield from paths(inner, (*path, key))


def with_value(record, path, value):
    *above, last = path
    for step in above:
        record = record[step]
    if value is ABSENT:
        del record[last]
    else:
        record[last] = copy.deepcopy(value)  # a second change may be inside it


@dataclass(frozen=True)
class Honest:
    """Results as the runner writes them, and what an archive of them holds."""

    folder: Path
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """On shapes10, and on data that nothing is known of."""
    made = {}
    for source in ("shapes10", "birds"):
        folder = honest(tmp_path_factory.mktemp(source), change=lambda one, source=source: replace(one, source=source))
        made[source] = Honest(folder, dict(open_archive(archived(folder, folder / "x.zip")).files))
    return made


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_accepted_is_shown(archives, tmp_path_factory, data):
    """One or two values of one result changed, of whatever type and size."""
    source = data.draw(st.sampled_from(sorted(archives)))
    method, suite = data.draw(st.sampled_from(METHODS)), data.draw(st.sampled_from(SUITES))
    name = f"results/{source}/vit/{method}/{suite}.seed0.json"
    record = json.loads(archives[source].files[name])
    for _ in range(data.draw(st.integers(1, 2))):
        with_value(record, data.draw(st.sampled_from(list(paths(record)))), data.draw(st.sampled_from(VALUES)))
    folder = tmp_path_factory.mktemp("accepted")
    path = folder / "x.zip"
    path.write_bytes(archive_of(archives[source].files | {name: json.dumps(record).encode()})[0])
    found = problems(path, allow_unknown_data=True)
    assert all(line.isprintable() and len(line) < 400 for line in found), found
    if not found:
        merge(path, folder / "board", allow_unknown_data=True)
        assert_shown(folder / "board")


NUMBERS = [np.nan, np.inf, -1, 0, 1, 1e30]
CHANGES = {
    "without a column": lambda one, name, number: without(name)(one),
    "a column of one number": lambda one, name, number: with_column(one, name, number),
    "a column that nobody knows": lambda one, name, number: with_column(one, "odd", number),
    "steps": lambda one, name, number: with_column(one, "steps", number),
    "in another order": lambda one, name, number: turned(one),
    "one image": lambda one, name, number: only(one, one.ids[:1].tolist()),
    "odd ids": lambda one, name, number: replace(one, ids=np.array([f"<b>../{k}\u00e9 {name}" for k in one.ids])),
    "three best classes": lambda one, name, number: replace(one, top5=one.top5[:, :3]),
    "no probabilities": lambda one, name, number: replace(one, confidence=None, label_probability=None, top5=None),
    "one prediction": lambda one, name, number: predicted(one, np.full(len(one), 3)),
    "all right": lambda one, name, number: all_right(one),
    "all wrong": lambda one, name, number: predicted(one, (one.labels + 1) % 10),
}


def turned(one):
    extra = {name: values[::-1] for name, values in one.extra.items()}
    columns = ("ids", "labels", "predictions", "label_probability", "confidence", "top5")
    return replace(one, **{name: getattr(one, name)[::-1].copy() for name in columns}, extra=extra)


def with_column(one, name, number):
    column = np.full(len(one), number)
    return replace(one, extra={**one.extra, name: column if np.isnan(number) else column.astype("f4")})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_outcomes_that_are_accepted_are_shown(archives, tmp_path_factory, data):
    """Outcomes of some conditions changed, on data that nothing is known of, with every figure and digest made anew."""
    folder = tmp_path_factory.mktemp("outcomes") / "results"
    shutil.copytree(archives["birds"].folder / "birds", folder / "birds")
    suite, change = data.draw(st.sampled_from(SUITES)), CHANGES[data.draw(st.sampled_from(sorted(CHANGES)))]
    name = data.draw(st.sampled_from(["predictions_clean", "predictions_uint8", "predictions_all", "linf", "l2"]))
    number = data.draw(st.sampled_from(NUMBERS))
    try:
        redone(
            suite, lambda one: change(one, name, number), as_a_whole if data.draw(st.booleans()) else lambda one: one
        )(folder)
    except (ValueError, OverflowError):
        return  # no outcomes file takes it, or nothing follows from it
    path = archived(folder, folder.parent / "x.zip")
    found = problems(path, allow_unknown_data=True)
    assert all(line.isprintable() and len(line) < 400 for line in found), found
    if not found:
        merge(path, folder.parent / "board", allow_unknown_data=True)
        assert_shown(folder.parent / "board")


def assert_shown(board):
    """Without looking at the exit status of a board that names problems: it has to be written."""
    page = board.parent / "index.html"
    assert len(read_results(board)[0]) == len(METHODS) * len(SUITES)
    for command in (["show"], ["report", "--out", str(page)]):
        done = CliRunner().invoke(main, [*command, "--results", str(board)])
        assert done.exit_code in (0, 1), done.output
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "tamper",
    [
        redone("fgsm", without("linf")),
        redone("fgsm", without("linf", "l2", "predictions_clean", "predictions_uint8")),
        redone("fgsm", change=with_provenance(recipe=None)),
        redone("fgsm", change=lambda one: replace(one, method_title="finetune (control)")),
        redone("clean", change=with_provenance(mean=(), std=())),
        redone("fgsm", lambda one: replace(one, extra=one.extra | {"steps": np.full(len(one), np.nan)})),
    ],
    ids=[
        "no linf",
        "nothing of the attack",
        "no recipe",
        "another row's title",
        "no mean",
        "steps that are no numbers",
    ],
)
def test_what_was_merged_before_is_shown_too(tmp_path, tamper):
    """Boards hold results that older versions accepted."""
    tamper(honest(tmp_path / "board"))
    assert_shown(tmp_path / "board")
