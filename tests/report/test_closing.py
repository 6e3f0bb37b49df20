"""What a run says at its end: the board's figures and verdicts in words, and never more than they support."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from made import recipe, result

from nsbench.leaderboard import NOT_SEPARABLE, Lender, Table, build
from nsbench.report import LendingFolder, findings
from nsbench.report.closing import closing_lines
from nsbench.results import Result, outcomes_path, read_results
from nsbench.types import Score

SHOWCASE = Path(__file__).parents[2] / "reports/showcase/shapes10/results"
SUITES = [f"suite{number}" for number in range(11)]


def made(method: str, value: float, suite: str = "suite0", half: float = 1.0, **changes: object) -> Result:
    fields: dict[str, object] = {
        "score": Score(value, value - half, value + half, 1000),
        "identity": f"{method} {suite} {changes}",
    }
    if method != "pretrained":
        fields["recipe"] = recipe("shapes10")
    return result(method=method, suite=suite, **(fields | changes))


def eleven(method: str, value: float, **changes: object) -> list[Result]:
    return [made(method, value, suite, **changes) for suite in SUITES]


def closing(board: Sequence[Result], ran: Sequence[Result]) -> list[str]:
    (table,) = build(board).tables
    return closing_lines(table, {one.identity for one in ran})


def test_one_method_against_its_control_and_the_checkpoint() -> None:
    ran = eleven("ns", 60.0)
    first, second = closing([*ran, *eleven("finetune", 50.0), *eleven("pretrained", 60.0)], ran)
    assert first.startswith("ns: average of the eleven suites 60.0 (")
    assert first.endswith(", on 1,000 images of shapes10 each, seed 0.")
    assert "Against finetune: +10.0 (" in second
    assert "better (p < 0.001 after Holm, by their intervals alone, these weights); better on suite0, suite1" in second
    assert "of 11 suites, worse on none" in second
    assert "Against pretrained: 0.0 (" in second
    assert (
        "cannot be told apart (p = 1.000 after Holm, by their intervals alone, these weights); cannot be told apart on any"
        in second
    )
    assert second.endswith("they speak of these weights, not of the method.")


def test_a_difference_inside_the_intervals_is_not_called_one() -> None:
    ran = [made("ns", 50.4)]
    first, second = closing([*ran, made("finetune", 50.0)], ran)
    assert first == "ns: suite0 50.4 (49.4 to 51.4), on 1,000 images of shapes10, seed 0."
    assert "+0.4 (" in second
    assert "cannot be told apart" in second
    assert "better" not in second


def test_lower_is_better_is_said_and_minded() -> None:
    ran = [made("ns", 40.0, lower_is_better=True, unit="mCE")]
    first, second = closing([*ran, made("finetune", 50.0, lower_is_better=True, unit="mCE")], ran)
    assert first.startswith("ns: suite0 (lower is better) 40.0 (")
    assert "−10.0" in second
    assert ", better (p < 0.001" in second


def test_a_method_alone_is_compared_with_nothing() -> None:
    ran = eleven("ns", 60.0)
    first, second = closing(ran, ran)
    assert "60.0" in first
    assert second == "Nothing in its table to compare it with: run the matched control too (nsbench list methods)."


def test_a_control_on_other_images_is_no_comparison() -> None:
    """The control's figure of an older suite version stands in the table, and is not compared."""
    ran = [made("ns", 60.0, suite_version=2)]
    first, second = closing([*ran, made("finetune", 50.0)], ran)
    assert first.startswith("ns: suite0 60.0")
    assert second == "Nothing to compare with finetune: see the page's notes."


def test_missing_suites_leave_no_average() -> None:
    ran = eleven("ns", 60.0)[:10]
    first, second = closing([*ran, *eleven("finetune", 50.0)], ran)
    assert first == "ns: 10 suites, on 1,000 images of shapes10 each, seed 0; the average needs all eleven."
    assert "Against finetune: better on suite0" in second
    assert "of 10 suites, worse on none" in second


def test_only_what_the_run_was_about_is_told() -> None:
    """A run of one suite says nothing of the ten that were stored before, and nothing of other rows' figures."""
    stored = [*eleven("ns", 60.0), *eleven("finetune", 50.0)]
    first, second = closing(stored, stored[:1])
    assert first.startswith("ns: suite0 60.0")
    assert "average" not in first + second
    assert "suite1" not in second


def test_a_limit_is_a_look() -> None:
    ran = [made("ns", 50.0, limit=64)]
    assert "a part of them: good for a look, not for a claim" in closing(ran, ran)[0]


def test_several_seeds_are_named() -> None:
    ran = [made("ns", value, seed=seed) for seed, value in enumerate((50.0, 52.0))]
    first, second = closing([*ran, *(made("finetune", 50.0, seed=seed) for seed in (0, 1))], ran)
    assert first.startswith("ns: suite0 51.0 (")
    assert first.endswith("seeds 0, 1.")
    assert second.endswith("Tests are over images and trainings.")


def test_the_checkpoint_alone_claims_nothing_of_trainings() -> None:
    ran, other = [made("pretrained", 50.0)], made("madry", 50.0)
    (first, second) = closing([*ran, other], ran)
    assert first.startswith("pretrained: suite0 50.0")
    assert "Nothing in its table" in second


def test_several_methods_the_best_and_what_cannot_be_told_from_it() -> None:
    ran = [*eleven("ns", 60.0), *eleven("madry", 59.9), *eleven("trades", 50.0), *eleven("free", 61.0)[:9]]
    first, second = closing(ran, ran)
    assert first.startswith("Best of 3 rows: ns, average of the eleven suites 60.0 (")
    assert second.startswith(
        "Cannot be told from it: madry. Behind it: trades. Without that figure: free. Tests with a row of"
    )


def test_several_methods_on_some_suites() -> None:
    ran = [made(method, value, suite) for suite in SUITES[:2] for method, value in (("ns", 60.0), ("madry", 60.0))]
    ran[0] = made("ns", 70.0, SUITES[0])
    first, second = closing(ran, ran)
    assert first == "2 rows in 2 suites, on 1,000 images of shapes10 each; the average needs all eleven."
    assert second.startswith("Ahead of all others of the run: ns on suite0. ")


def test_a_run_of_a_method_and_its_control_is_about_the_method() -> None:
    ran = [*eleven("ns", 60.0), *eleven("finetune", 60.0)]
    first, second = closing(ran, ran)
    assert first.startswith("ns: average")
    assert second.startswith("Against finetune: 0.0 (")


def test_no_results_no_words(tmp_path: Path) -> None:
    assert findings(tmp_path, []) == []
    assert closing([made("ns", 50.0)], []) == []


@pytest.fixture(scope="module")
def showcase() -> list[Result]:
    return [one for one in read_results(SHOWCASE)[0] if one.seed == 0]


def test_the_words_of_the_showcase_are_the_boards_verdicts(showcase: list[Result]) -> None:
    """NS of the committed board, against the rows that the showcase lends it: paired tests on the same images."""
    ran = [one for one in showcase if one.method == "ns"]
    (table,) = build(ran, lender=Lender("the showcase", showcase)).tables
    first, second = closing_lines(table, {one.identity for one in ran})
    average = row(table, "ns").average
    assert average is not None
    assert average.delta is not None
    assert (
        f"{average.value:.1f} ({average.low:.1f} to {average.high:.1f}), on 500 to 1,000 images of shapes10 each"
        in first
    )
    assert "Against finetune (control) · from the showcase: " in second
    assert "intervals alone" not in second
    told = "cannot be told apart" if average.delta.verdict == NOT_SEPARABLE else average.delta.verdict
    assert f"), {told} (p = {average.delta.adjusted:.3f} after Holm, these weights)" in second
    for column in table.columns:
        delta = row(table, "ns").cells[column.suite].delta
        assert delta is not None
        against_control = second.partition(" Against pretrained")[0]
        assert (column.title in words(against_control)) == (delta.verdict != NOT_SEPARABLE), column.title


def test_findings_read_the_other_folder(showcase: list[Result], tmp_path: Path) -> None:
    """The same from the folders: what `nsbench run` calls."""
    (ran,) = [one for one in showcase if one.method == "ns" and one.suite == "clean"]
    assert ran.path is not None
    for path in (ran.path, outcomes_path(ran)):
        shutil.copy(path, tmp_path)
    first, second, *rest = findings(
        tmp_path, [ran.identity], ran.provenance.limit, LendingFolder(SHOWCASE, "the showcase")
    )
    assert first.startswith("NS: Clean ")
    assert any("comes first" in line for line in rest)
    assert "Against pretrained · from the showcase: " in second
    assert "intervals alone" not in second


def row(table: Table, method: str):  # type: ignore[no-untyped-def]
    (found,) = [row for row in table.rows if row.method == method]
    return found


def words(text: str) -> set[str]:
    return set(text.replace(",", " ").replace(".", " ").split())
