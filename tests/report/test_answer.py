"""The sentences above a table, on boards made so that the right sentence is known."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boards import SUITES, N, flags, only_table, store
from made import recipe, result
from rich.console import Console

from nsbench import report
from nsbench.leaderboard import Leaderboard, RowCost, RowFlag, Table, build
from nsbench.report.answer import Where, answer
from nsbench.report.closing import table_lines
from nsbench.results import Result
from nsbench.types import Score


def first(right: int) -> np.ndarray:
    """Flags of images, of which the first `right` are right."""
    return np.arange(N) < right


def board(folder: Path, seeds: int = 1, **right: int) -> Table:
    """One suite; by method, how many images are right."""
    for method, count in right.items():
        for seed in range(1 if method == "pretrained" else seeds):
            store(folder, method, "clean", first(count), seed=seed)
    return only_table(folder)


def sentences(table: Table) -> list[str]:
    return [one.sentence for one in answer(table)]


def test_what_the_subject_is_better_than_and_what_it_cannot_be_told_from(tmp_path: Path) -> None:
    table = board(tmp_path, ns=180, finetune=178, pretrained=100)
    (subject, order, confound) = answer(table)
    assert subject.sentence.startswith("On CLEAN, ns cannot be told from finetune, its matched control (+1.0, −")
    assert "p = 0.500 after Holm, these weights) and is better than pretrained, the untouched checkpoint (+40.0, +" in (
        subject.sentence
    )
    assert subject.sentence.endswith("p < 0.001 after Holm, these weights).")
    assert subject.where == Where("compare", ("ns", "finetune"))
    assert order.sentence.startswith("On CLEAN, ns (90.0, ")
    assert order.sentence.endswith(
        "comes first and cannot be told from finetune; it is ahead of pretrained (these weights)."
    )
    assert order.where == Where("column", suite="clean")
    assert confound.sentence == (
        "Every trained row is of one training, so that what is said of them is said of these weights and not of methods."
    )


def test_a_subject_that_is_worse_is_called_worse(tmp_path: Path) -> None:
    (subject, *_) = sentences(board(tmp_path, ns=100, finetune=180))
    assert subject.startswith("On CLEAN, ns is worse than finetune, its matched control (−40.0, −")


def test_two_rows_need_no_second_sentence(tmp_path: Path) -> None:
    assert [one.where.kind for one in answer(board(tmp_path, ns=100, finetune=180))] == ["compare", "notes"]


def test_verdicts_are_those_after_holm(tmp_path: Path) -> None:
    """A difference that one test would call separable is none among many tests, and no sentence says otherwise."""
    for method, right in (("ns", 186), ("finetune", 179), *((f"other{k}", 179) for k in range(6))):
        store(tmp_path, method, "clean", first(right))
    table = only_table(tmp_path)
    delta = next(row for row in table.rows if row.method == "ns").cells["clean"].delta
    assert delta is not None
    assert delta.p < 0.05 < delta.adjusted
    subject, order, _ = sentences(table)
    assert "cannot be told from finetune, its matched control" in subject
    assert "cannot be told from finetune, other0, other1, other2 and 3 more." in order


def test_lower_is_better_is_minded(tmp_path: Path) -> None:
    for method, right in (("ns", 180), ("finetune", 100), ("madry", 120)):
        store(tmp_path, method, "imagenet_c", first(right))
    subject, order, _ = sentences(only_table(tmp_path))
    assert subject.startswith("On IMAGENET_C (lower is better), ns is better than finetune, its matched control (−")
    assert order.startswith("On IMAGENET_C (lower is better), ns (")
    assert order.endswith("is ahead of both others (these weights).")


def test_by_average_with_what_it_hides(tmp_path: Path) -> None:
    for suite in SUITES:
        for method in ("ns", "finetune"):
            store(tmp_path, method, suite, flags(0.5, list(SUITES).index(suite)))
    store(tmp_path, "ns", "fgsm", first(160))
    store(tmp_path, "finetune", "fgsm", first(100))
    store(tmp_path, "ns", "cw", first(100))
    store(tmp_path, "finetune", "cw", first(160))
    (subject, *_) = sentences(only_table(tmp_path))
    assert subject.startswith("By average, ns cannot be told from finetune, its matched control (0.0, 0.0 to 0.0; p")
    assert subject.endswith("; against finetune it is better on FGSM of 11 suites, worse on CW.")


def test_without_a_common_figure_suites_are_told(tmp_path: Path) -> None:
    for suite, right in (("clean", 180), ("fgsm", 100)):
        store(tmp_path, "ns", suite, first(right))
        store(tmp_path, "finetune", suite, first(100))
    subject, order, _ = sentences(only_table(tmp_path))
    assert subject == (
        "ns against finetune, its matched control: better on CLEAN of 2 suites, worse on none (these weights)."
    )
    assert order == "Ahead of all others (these weights): ns on CLEAN; on the other suite no row is."


def test_several_trainings_speak_of_methods(tmp_path: Path) -> None:
    told = " ".join(sentences(board(tmp_path, seeds=4, ns=180, finetune=178, madry=90)))
    assert "these weights" not in told
    assert "it is ahead of madry." in told


def test_who_is_last_is_told_where_the_best_is_ahead_of_nobody() -> None:
    """The best has a wide interval; another one is told from the last."""
    rows = [made("ns", 60.0, 30.0), made("finetune", 58.0, 1.0), made("madry", 50.0, 1.0)]
    _, order, _ = sentences(tables(rows)[0])
    assert order.endswith(
        "comes first and cannot be told from finetune and madry; madry is behind finetune (these weights)."
    )


def made(method: str, value: float, half: float = 1.0, **changes: object) -> Result:
    plain: dict[str, object] = {"score": Score(value, value - half, value + half, 1000), "recipe": recipe("shapes10")}
    return result(method=method, identity=f"{method}{changes}", **(plain | changes))


def tables(results: list[Result]) -> tuple[Table, ...]:
    return build(results).tables


def confound(table: Table) -> str:
    return sentences(table)[-1]


def test_the_largest_confound_is_the_first_of_these(tmp_path: Path) -> None:
    table = board(tmp_path, seeds=2, ns=180, finetune=178)
    costs = {"ns": RowCost(1.0, 1.0, 420.0, None, ""), "finetune": RowCost(1.0, 1.0, 100.0, None, "")}
    table = changed(table, lambda row: {"cost": costs[row.method]})
    assert confound(table) == "Equal steps are not equal compute: ns took 4.2 times the forward passes of finetune."
    assert answer(table)[-1].where == Where("method", ("ns",))
    other = changed(table, lambda row: {"kin": row.kin._replace(recipe="another")} if row.method == "ns" else {})
    assert confound(other) == "Rows differ in more than their method: recipe (2)."
    assert confound(replace(other, limit=64)) == "At most 64 images per condition: good for a look, not for a claim."
    flagged = changed(other, lambda row: {"flags": (RowFlag("zero gradients", "…", ("fgsm",)),)})
    assert confound(flagged) == (
        "First look at the health flag “zero gradients” of ns, and flags of 1 other row: figures of it may flatter."
    )


def changed(table: Table, changes) -> Table:  # type: ignore[no-untyped-def]
    return replace(table, rows=tuple(replace(row, **changes(row)) for row in table.rows))


def test_figures_apart_are_named() -> None:
    (table,) = tables([made("ns", 60.0), made("finetune", 50.0, suite_version=0), made("madry", 50.0)])
    assert confound(table).startswith("One figure is left out of every comparison: finetune, clean (")


def test_equal_rows_have_nothing_to_confound(tmp_path: Path) -> None:
    assert [one.where.kind for one in answer(board(tmp_path, seeds=2, ns=180, finetune=178))] == ["compare"]


def test_one_row_says_nothing(tmp_path: Path) -> None:
    assert answer(board(tmp_path, ns=100)) == ()


def test_a_run_is_told_what_its_own_lines_do_not_say(tmp_path: Path) -> None:
    table = board(tmp_path, ns=180, finetune=178, madry=90)
    ran = {one.identity for row in table.rows if row.method == "ns" for one in row.results}
    assert table_lines(table, ran) == sentences(table)[1:]
    other = {one.identity for row in table.rows if row.method == "madry" for one in row.results}
    assert table_lines(table, other) == sentences(table)


@pytest.fixture
def shown(tmp_path: Path) -> Leaderboard:
    return Leaderboard((board(tmp_path, ns=180, finetune=178, pretrained=100),))


def test_every_view_says_the_same(shown: Leaderboard) -> None:
    told = sentences(shown.tables[0])
    console = Console(width=400, record=True, file=io.StringIO())
    report.print_tables(shown, console)
    text, markdown, page = console.export_text(), report.to_markdown(shown), report.to_html(shown)
    for sentence in told:
        assert sentence in text
        assert f"- {sentence}" in markdown.replace("\\", "").replace("&lt;", "<")
        assert sentence.replace("<", "&lt;") in page
    for address in ("t0-compare", "t0-c1", "t0-notes"):
        assert f'href="#{address}"' in page
        assert f'id="{address}"' in page
