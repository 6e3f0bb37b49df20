"""Which tables results belong to: what counts is which images were evaluated, not the limit that was given."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import boards
import made
import pytest
from boards import SUITES, flags

from nsbench.leaderboard import Table, build
from nsbench.leaderboard.lent import Lender
from nsbench.results import Result, read_results
from nsbench.results.comparability import ImageSet, by_table, image_set, measured
from nsbench.types import ThreatModel

SMALL = "imagenet_a"  # the one suite whose set the limit leaves whole


def result(suite: str, n: int, available: int | None, limit: int | None, unreadable: int = 0) -> Result:
    missing = {f"x{k}": "cannot be read" for k in range(unreadable)}
    one = boards.condition(suite, n=n, available=available, unreadable=missing)
    return boards.result("ns", suite, conditions=(one,), limit=limit, identity=f"{suite} {n} {available} {limit}")


@pytest.mark.parametrize(
    ("n", "available", "limit", "unreadable", "expected"),
    [
        (500, 7500, 500, 0, 500),
        (500, 500, 500, 0, None),
        (400, 400, 500, 0, None),
        (400, 400, None, 0, None),
        (498, 500, 500, 2, None),
        (498, 7500, 500, 2, 500),
        (100, None, None, 0, None),  # from here on: of old versions, which did not say how many there were
        (100, None, 500, 0, None),
        (500, None, 500, 0, 500),
        (498, None, 500, 2, 500),
    ],
)
def test_a_limit_counts_where_it_left_images_out(
    n: int, available: int | None, limit: int | None, unreadable: int, expected: int | None
) -> None:
    one = result("clean", n, available, limit, unreadable)
    assert image_set(one) == ImageSet(expected)
    assert {str(key.images) for key in by_table([one])} == {f"limit {expected}" if expected else "all images"}


def members(results: list[Result]) -> dict[str, set[str]]:
    return {str(key.images): {one.suite for one in mine} for key, mine in by_table(results).items()}


def test_a_whole_set_is_in_the_table_of_the_limit_and_in_that_of_all_images() -> None:
    cut, whole = result("clean", 500, 7500, 500), result("clean", 7500, 7500, None)
    small = {limit: result(SMALL, 500, 500, limit) for limit in (500, None)}
    for first, second in itertools.product(small.values(), repeat=2):  # whichever run made it, and either way round
        for results in ([cut, whole, first], [second, whole, cut]):
            assert members(results) == {"all images": {"clean", SMALL}, "limit 500": {"clean", SMALL}}
    assert members([cut, small[500]]) == {"limit 500": {"clean", SMALL}}
    assert members([small[500]]) == {"all images": {SMALL}}
    smaller = result("fgsm", 100, 7500, 100)
    assert members([cut, small[500], smaller]) == {"limit 100": {"fgsm"}, "limit 500": {"clean", SMALL}}


def test_no_limit_is_shared_across_sources_and_preprocessings() -> None:
    cut, small = result("clean", 500, 7500, 500), result(SMALL, 500, 500, None)
    elsewhere = replace(small, source="elsewhere")
    otherwise = replace(small, provenance=replace(small.provenance, preprocessing="crop 224"))
    assert [(str(key.images), len(mine)) for key, mine in by_table([cut, elsewhere, otherwise]).items()] == [
        ("all images", 1),
        ("all images", 1),
        ("limit 500", 1),
    ]


def eleven(folder: Path, method: str, limit: int, size: int, smallest: int) -> None:
    """All suites of the paper under one limit; the set of SMALL is smaller than the others."""
    for number, suite in enumerate(SUITES):
        available = smallest if suite == SMALL else size
        n = min(available, limit)
        right = flags(0.6, number, n)
        conditions = tuple(
            boards.condition(
                suite,
                boards.outcomes(right, suite),
                name,
                split=boards.SPLITS.get(suite, "clean"),
                available=available,
                data_digest=f"{suite} {n}",
            )
            for name in (boards.CONDITIONS_OF_C if suite == "imagenet_c" else [suite])
        )
        given = limit if limit < size else None
        boards.store(
            folder, method, suite, right, conditions=conditions, limit=given, identity=made.digest(f"{suite} {n}")
        )


def tables(folder: Path) -> dict[str, Table]:
    return {table.image_set: table for table in build(*read_results(folder)).tables}


@pytest.mark.parametrize("limits", [(30, 60), (60, 30)])
def test_with_either_order_both_tables_have_an_average(tmp_path: Path, limits: tuple[int, int]) -> None:
    """The second run finds the small set held: it has another limit, and is the same measurement."""
    for limit in limits:
        eleven(tmp_path, "ns", limit, size=60, smallest=30)
    assert len(read_results(tmp_path)[0]) == 2 * len(SUITES) - 1
    found = tables(tmp_path)
    assert set(found) == {"all images", "limit 30"}
    for table in found.values():
        (row,) = table.rows
        assert row.average is not None
        assert row.cells[SMALL].n == 30
        assert not any(cell.reason for cell in row.cells.values())
    assert (found["limit 30"].limit, found["all images"].limit) == (30, None)


def test_whole_sets_of_another_folder_are_lent_to_the_table_of_a_limit(tmp_path: Path) -> None:
    eleven(tmp_path / "own", "ns", 30, size=60, smallest=30)
    eleven(tmp_path / "other", "finetune", 60, size=60, smallest=30)
    (table,) = build(
        read_results(tmp_path / "own")[0], lender=Lender("there", read_results(tmp_path / "other")[0])
    ).tables
    (row,) = [row for row in table.rows if row.lender]
    assert set(row.cells) == {SMALL}


def test_budgets_that_are_shown_alike_are_told_apart() -> None:
    """Of a bounded patch the bound is not among the words."""
    one, other = (
        boards.result(conditions=(boards.condition("patchfool", attack="patchfool", threat=threat),))
        for threat in (ThreatModel("patch", 0.02, patches=1), ThreatModel("patch", 1.0, patches=1))
    )
    assert measured(one)["conditions"] != measured(other)["conditions"]
    (plain,) = measured(boards.result(conditions=(boards.condition("fgsm", threat=ThreatModel("linf", 1 / 255)),)))[
        "conditions"
    ]
    assert plain[3] == "linf 1/255"  # as baselines that were stored before have it
