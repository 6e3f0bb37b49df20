"""Whatever `submit check` accepts, the page and the terminal show."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from submissions import problems
from tampering import METHODS, SUITES, archived, honest, redone, with_provenance, without

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
        record[last] = value


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Of honest results: on shapes10, and on data that nothing is known of."""
    made = {}
    for source in ("shapes10", "birds"):
        folder = honest(tmp_path_factory.mktemp(source), change=lambda one, source=source: replace(one, source=source))
        made[source] = dict(open_archive(archived(folder, folder / "x.zip")).files)
    return made


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_accepted_is_shown(archives, tmp_path_factory, data):
    """One or two values of one result changed, of whatever type and size."""
    source = data.draw(st.sampled_from(sorted(archives)))
    method, suite = data.draw(st.sampled_from(METHODS)), data.draw(st.sampled_from(SUITES))
    name = f"results/{source}/vit/{method}/{suite}.seed0.json"
    record = json.loads(archives[source][name])
    for _ in range(data.draw(st.integers(1, 2))):
        with_value(record, data.draw(st.sampled_from(list(paths(record)))), data.draw(st.sampled_from(VALUES)))
    folder = tmp_path_factory.mktemp("accepted")
    path = folder / "x.zip"
    path.write_bytes(archive_of(archives[source] | {name: json.dumps(record).encode()})[0])
    found = problems(path, allow_unknown_data=True)
    assert all(line.isprintable() and len(line) < 400 for line in found), found
    if not found:
        merge(path, folder / "board", allow_unknown_data=True)
        assert_shown(folder / "board")


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
