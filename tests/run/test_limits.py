"""A limit that leaves a set whole: whichever run came first, both tables have its figure, from one evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nsbench.cli import main
from nsbench.leaderboard import build
from nsbench.results import read_results

WHOLE, CUT = "imagenet_a", "clean"  # 500 and 1,000 images of shapes10
LIMITED = ("--limit", "500")


def run(folder: Path, *options: str) -> str:
    asked = ["run", "--method", "pretrained", "--suite", f"{CUT},{WHOLE}", "--results", str(folder), *options]
    answer = CliRunner().invoke(main, asked)
    assert answer.exit_code == 0, answer.output
    return answer.output


def counts(folder: Path) -> dict[str, dict[str, int]]:
    """Images by table and suite."""
    results, problems = read_results(folder)
    assert not problems
    tables = build(results).tables
    assert all(len(table.rows) == 1 for table in tables)
    return {t.image_set: {suite: cell.n for suite, cell in t.rows[0].cells.items()} for t in tables}


@pytest.mark.parametrize("runs", [((), LIMITED), (LIMITED, ())])
def test_the_second_run_finds_the_whole_set_held(tmp_path: Path, runs: tuple[tuple[str, ...], ...]) -> None:
    first, second = (run(tmp_path, *options) for options in runs)
    assert "2 done, 0 held already" in first
    assert f"pretrained x {WHOLE}: held already" in second
    assert "pretrained: 2 suites, on " in second  # told of one table, which is that of this run
    assert ("(a part of them" in second) == (runs[1] == LIMITED)
    assert counts(tmp_path) == {"all images": {CUT: 1000, WHOLE: 500}, "limit 500": {CUT: 500, WHOLE: 500}}


def test_results_that_do_not_say_how_many_images_there_were_learn_it(tmp_path: Path) -> None:
    """Of schema 2: 500 images under a limit of 500 may be all of them, which only the data can tell."""
    run(tmp_path, *LIMITED)
    (path,) = tmp_path.rglob(f"{WHOLE}.seed0.json")
    record = json.loads(path.read_text())
    for condition in record["conditions"]:
        del condition["available"]
    path.write_text(json.dumps(record | {"schema": 2}))
    assert counts(tmp_path) == {"limit 500": {CUT: 500, WHOLE: 500}}
    assert f"pretrained x {WHOLE}: held already" in run(tmp_path)
    assert json.loads(path.read_text()) == json.loads(
        json.dumps(
            record | {"conditions": [one | {"available": 500} for one in record["conditions"]], "image_ids": "names"}
        )
    )
    assert counts(tmp_path) == {"all images": {CUT: 1000, WHOLE: 500}, "limit 500": {CUT: 500, WHOLE: 500}}
