"""What a row was measured at before, and which rows are new: closed forms on results with dates of their own."""

import json
import re

import pytest
from boards import N, only_table, row_of, store

from nsbench.leaderboard import build
from nsbench.report import to_html
from nsbench.report.tables.tidy import to_json
from nsbench.results import read_results


def right(count):
    return [k < count for k in range(N)]


@pytest.fixture
def folder(tmp_path):
    """A row that was measured three times, under two suite versions and two commits, and a row of one measurement."""
    older = {"date": "2025-01-01T10:00:00+00:00", "commit": "aaa", "weights_digest": "w1", "identity": "1"}
    store(tmp_path, "ns", "clean", right(100), **older)
    store(tmp_path, "ns", "clean", right(110), **(older | {"date": "2025-02-01", "commit": "bbb", "identity": "2"}))
    newest = {"date": "2025-04-01", "suite_version": 2, "weights_digest": "w2", "commit": "bbb", "identity": "3"}
    store(tmp_path, "ns", "clean", right(120), **newest)
    store(tmp_path, "finetune", "clean", right(90), date="2025-03-01", suite_version=2)
    return tmp_path


def test_the_newest_is_shown_and_the_others_are_its_history(folder):
    table = only_table(folder)
    row = row_of(table, "ns")
    assert row.cells["clean"].value == 60
    history = row.history["clean"]
    assert [(one.date[:10], one.value, one.suite_version, one.shown) for one in history] == [
        ("2025-04-01", 60, 2, True),
        ("2025-02-01", 55, 1, False),
        ("2025-01-01", 50, 1, False),
    ]
    assert [one.changed for one in history] == [
        ("suite version 1 → 2", "weights w1 → w2"),
        ("commit aaa → bbb",),
        (),
    ]
    assert history[2].low < 50 < history[2].high
    assert not row_of(table, "finetune").history


def test_seeds_of_one_measurement_are_no_history(tmp_path):
    for seed in (0, 1, 2):
        store(tmp_path, "ns", "clean", right(100 + seed), seed=seed)
    assert not row_of(only_table(tmp_path), "ns").history
    store(tmp_path, "ns", "clean", right(50), seed=1, date="2025-02-01", identity="again", weights_digest="ns1")
    history = row_of(only_table(tmp_path), "ns").history["clean"]
    assert [(one.seed, one.shown) for one in history] == [(1, True), (0, True), (1, False), (2, True)]
    assert history[0].changed == ("nothing that is recorded",)


def test_versions_of_a_method_are_rows_of_one_history(tmp_path):
    store(tmp_path, "ns", "clean", right(100), identity="1")
    store(tmp_path, "ns", "clean", right(110), identity="2", date="2025-02-01", method_version=2)
    table = only_table(tmp_path)
    assert len(table.rows) == 2
    first, second = sorted(table.rows, key=lambda row: row.cells["clean"].value)
    assert second.history["clean"][0].changed == ("method version 1 → 2",)
    assert [one.shown for one in first.history["clean"]] == [False, True]
    assert [one.shown for one in second.history["clean"]] == [True, False]


@pytest.mark.parametrize(("date", "new"), [("2025-03-02", True), ("2025-03-01T23:00:00+00:00", False), ("soon", False)])
def test_new_is_relative_to_the_newest_result_of_the_table(tmp_path, date, new):
    store(tmp_path, "ns", "clean", right(100), date="2025-04-01")
    store(tmp_path, "finetune", "clean", right(90), date=date)
    store(tmp_path, "madry", "clean", right(90), date="2024-01-01")
    table = only_table(tmp_path)
    assert {row.method: row.new for row in table.rows} == {"ns": True, "finetune": new, "madry": False}


def test_where_all_rows_are_new_none_is_marked(tmp_path):
    store(tmp_path, "ns", "clean", right(100), date="2025-04-01")
    store(tmp_path, "finetune", "clean", right(90), date="2025-03-20")
    board = build(*read_results(tmp_path))
    assert not any(row.new for row in board.tables[0].rows)
    assert 'class="new"' not in to_html(board)
    assert "<summary>History</summary>" not in to_html(board)


def test_the_page_and_json_have_both(folder):
    store(folder, "finetune", "clean", right(90), date="2024-03-01", suite_version=2)
    board = build(*read_results(folder))
    page = to_html(board)
    assert page.count("<summary>History</summary>") == 1
    (table,) = re.findall(r'<table class="history">.*?</table>', page, re.DOTALL)
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == ["2025-04-01", "2025-02-01", "2025-01-01"]
    assert "suite version 1 → 2; weights w1 → w2 (in the table)" in table
    assert table.count("first measurement") == 1
    assert page.count('<span class="new" title="The newest result of this row is at most 30 days older') == 1
    assert "new: The newest result" in page
    rows = {row["method"]: row for row in json.loads(to_json(board))["tables"][0]["rows"]}
    assert [one["value"] for one in rows["ns"]["history"]["clean"]] == [60, 55, 50]
    assert rows["ns"]["history"]["clean"][1]["changed"] == ["commit aaa → bbb"]
    assert (rows["ns"]["new"], rows["finetune"]["new"]) == (True, False)
