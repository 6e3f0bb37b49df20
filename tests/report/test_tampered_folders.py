"""Changes of a results folder: `show` and `report` name each figure that its outcomes do not give, and show the rest."""

import pytest
from click.testing import CliRunner
from tampering import TABLE, TAMPERED, honest

from nsbench.cli.main import main
from nsbench.leaderboard import build
from nsbench.results import read_results


def test_an_honest_folder_has_no_problem(tmp_path):
    assert build(*read_results(honest(tmp_path))).problems == ()


@pytest.mark.parametrize("tampering", TABLE, ids=lambda one: one.name)
def test_what_the_outcomes_do_not_give_is_named_and_not_compared(tmp_path, tampering):
    tampering.change(honest(tmp_path))
    results, unread = read_results(tmp_path)
    board = build(results, unread)
    assert bool(board.problems) == tampering.board, board.problems
    if tampering.board and not unread:
        (line,) = board.problems
        cells = [cell for table in board.tables for row in table.rows for cell in row.cells.values()]
        (apart,) = [cell for cell in cells if "not what its outcomes give" in cell.reason]
        assert line.startswith(str(apart.results[0].path))
        assert (apart.best, apart.tied, apart.rank, apart.delta) == (False, False, None, None)
        assert {one.method for one in apart.results} == {TAMPERED}


@pytest.mark.parametrize("tampering", [one for one in TABLE if one.board][:4], ids=lambda one: one.name)
def test_show_and_report_exit_with_1(tmp_path, tampering):
    folder = honest(tmp_path / "results")
    commands = [
        ["show", "--results", str(folder), "--beside", "none"],
        ["report", "--results", str(folder), "--beside", "none", "--out", str(tmp_path / "page.html")],
        ["report", "--results", str(folder), "--format", "csv", "--out", str(tmp_path / "out")],
    ]
    assert [CliRunner().invoke(main, command).exit_code for command in commands] == [0, 0, 0]
    tampering.change(folder)
    for command in commands:
        found = CliRunner().invoke(main, command)
        assert found.exit_code == 1
        assert "outcomes" in found.output
    assert "not what its outcomes give" in (tmp_path / "page.html").read_text()
