"""`examples/planned_comparisons.py`: a family of tests over several boards has one correction."""

import runpy
from pathlib import Path

import pytest

import nsbench as nb
from nsbench.errors import UsageError
from nsbench.leaderboard import compare

REPOSITORY = Path(__file__).parents[2]
SHOWCASE = REPOSITORY / "reports" / "showcase"
HELD_OUT = "NS · noise_stop held-out"


def lines(plan: Path, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    runpy.run_path(str(REPOSITORY / "examples" / "planned_comparisons.py"))["main"](plan)
    printed = capsys.readouterr().out.splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed[4:]]
    apart = sum(float(line[5]) <= 0.05 for line in found)
    assert printed[0] == f"{len(found)} tests, {apart} of them told apart after Holm."
    return found


def written(path: Path, *rows: tuple[str, str, str]) -> Path:
    path.write_text(
        "".join(
            f"[[comparison]]\nname = '{folder}'\nresults = '{SHOWCASE / folder / 'results'}'\n"
            f"first = '{first}'\nsecond = '{second}'\n"
            for folder, first, second in rows
        )
    )
    return path


def test_holm_is_over_the_comparisons_of_all_boards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ("held_out", HELD_OUT, "finetune (control)")
    other = ("normalisation", "finetune (control)", "NS")
    found = lines(written(tmp_path / "plan.toml", one, other), capsys)
    p = sorted(float(line[4]) for line in found)
    by_hand, least = [], 0.0
    for place, value in enumerate(p):  # Holm 1979: step down, never below the one before
        least = max(least, min(1.0, value * (len(p) - place)))
        by_hand.append(least)
    assert sorted(float(line[5]) for line in found) == pytest.approx(
        by_hand, rel=0.06
    )  # both are printed in two digits
    assert {line[0] for line in found} == {"held_out", "normalisation"}


def test_the_differences_are_those_of_the_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(written(tmp_path / "plan.toml", ("held_out", HELD_OUT, "finetune (control)")), capsys)
    board = nb.leaderboard(nb.read_results(SHOWCASE / "held_out" / "results")).board
    expected = compare(board.tables[0], HELD_OUT, "finetune (control)")
    assert [(line[1], line[2]) for line in found] == [(one.suite, f"{one.delta.value:+.1f}") for one in expected]


def test_a_row_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="'nobody' is no row of this table; choose one of"):
        lines(written(tmp_path / "plan.toml", ("held_out", HELD_OUT, "nobody")), capsys)
