"""Rows that another folder lends to a table: which ones, how they are marked, and that they change nothing unseen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from made import condition, recipe, result

from nsbench.leaderboard import Lender, Table, build
from nsbench.results import Result
from nsbench.types import Score


def trained(method: str, suite: str = "clean", **changes: object) -> Result:
    return result(method=method, suite=suite, recipe=recipe("shapes10", epsilon=0.03), **changes)


OFFERED = [
    *(result(method="pretrained", suite=suite) for suite in ("clean", "fgsm")),
    *(
        trained(method, suite, score=Score(40.0, 30.0, 50.0, 100))
        for method in ("finetune", "ns")
        for suite in ("clean", "fgsm")
    ),
]


def only_table(own: Sequence[Result], offered: Sequence[Result]) -> Table:
    (table,) = build(own, lender=Lender("the showcase", offered)).tables
    return table


def lent_methods(own: Sequence[Result], offered: Sequence[Result]) -> set[str]:
    return {row.method for row in only_table(own, offered).rows if row.lender}


def test_rows_that_are_absent_join_and_are_marked() -> None:
    table = only_table([trained("ns")], OFFERED)
    assert {(row.label, row.lender) for row in table.rows} == {
        ("ns", ""),
        ("finetune · from the showcase", "the showcase"),
        ("pretrained · from the showcase", "the showcase"),
    }
    (own,) = [row for row in table.rows if not row.lender]
    assert own.cells["clean"].value == 50.0, "a stored row keeps its own figure"
    assert own.cells["clean"].delta is not None
    assert own.cells["clean"].delta.reference == "finetune · from the showcase"


def test_a_checkpoint_alone_gets_the_trained_rows() -> None:
    assert lent_methods([result(method="pretrained")], OFFERED) == {"finetune", "ns"}
    with_another = [result(method="pretrained"), result(method="madry", recipe=recipe("paper"))]
    assert lent_methods(with_another, OFFERED) == set(), "unless rows here were trained by another recipe"


def test_only_suites_of_the_table_join() -> None:
    table = only_table([trained("ns")], OFFERED)
    assert [column.suite for column in table.columns] == ["clean"]
    assert all(set(row.cells) == {"clean"} for row in table.rows)


def test_nothing_is_lent_where_all_is_there_or_nothing_is_here() -> None:
    assert build(OFFERED, lender=Lender("the showcase", OFFERED)) == build(OFFERED)
    assert build([], lender=Lender("the showcase", OFFERED)).tables == ()


def test_without_a_lender_the_board_is_as_it_was() -> None:
    alone = build([trained("ns")])
    assert build([trained("ns")], lender=Lender("the showcase", [])) == alone
    assert not any(row.lender for row in alone.tables[0].rows)


CHANGES: dict[str, Callable[[Result], Result]] = {
    "source": lambda one: replace(one, source="imagenet"),
    "model": lambda one: replace(one, model="vit_other"),
    "seed": lambda one: replace(one, seed=1),
    "limit": lambda one: replace(one, provenance=replace(one.provenance, limit=64)),
    "preprocessing": lambda one: replace(one, provenance=replace(one.provenance, preprocessing="crop 224")),
    "normalisation": lambda one: replace(one, provenance=replace(one.provenance, normalisation="imagenet")),
    "checkpoint": lambda one: replace(one, provenance=replace(one.provenance, parent_digest="f" * 16)),
    "recipe": lambda one: replace(one, provenance=replace(one.provenance, recipe=recipe("shapes10", epsilon=0.1))),
    "suite version": lambda one: replace(one, suite_version=2),
    "images": lambda one: replace(one, conditions=(condition(data_digest="1" * 16),)),
    "split": lambda one: replace(one, conditions=(condition(split="v2"),)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_measured_otherwise_is_not_lent(change: str) -> None:
    own, control = [trained("ns")], trained("finetune")
    assert lent_methods(own, [control]) == {"finetune"}
    assert lent_methods(own, [CHANGES[change](control)]) == set()


def test_a_row_of_ones_own_is_not_lent_again() -> None:
    assert lent_methods([trained("ns"), trained("finetune")], OFFERED) == {"pretrained"}
    newer = replace(trained("ns"), provenance=replace(trained("ns").provenance, method_version=2))
    assert lent_methods([newer], OFFERED) == {"finetune", "pretrained"}, "nor an older version of it"


def test_lending_does_not_change_what_a_column_is_held_against() -> None:
    """Three rows of another folder on other images than the two here do not turn these into the odd ones."""
    here = [replace(trained(method), conditions=(condition(data_digest="2" * 16),)) for method in ("ns", "madry")]
    table = only_table(here, OFFERED)
    assert {row.label for row in table.rows} == {"ns", "madry"}
    assert all(row.cells["clean"].comparable for row in table.rows)
