"""Score against cost, calibration and accuracy under attack: by hand, and as the page says it."""

import re
from dataclasses import replace

import pytest
from page_results import Page, linf, outcomes, stored
from test_confidence import sure

from nsbench import report
from nsbench.leaderboard import build
from nsbench.leaderboard.details import Details
from nsbench.report.page.suite_figures import attacked
from nsbench.report.plots import Lines, Look, Point, Series, Sheet, Spot, short
from nsbench.report.tradeoffs import calibration, cost, pareto
from nsbench.results import read_results
from nsbench.statistics import wilson


def spot(label, x, y):
    return Spot(label, Look(0), x, y)


def test_the_front_holds_what_nothing_equals_or_beats():
    spots = [spot("a", 5, 60), spot("b", 0, 50), spot("c", 5, 55), spot("d", 9, 60), spot("e", 7, 70), spot("f", 0, 49)]
    assert [one.label for one in pareto(spots)] == ["b", "a", "e"]
    assert [one.label for one in pareto([spot("dear", 9, 50), spot("cheap", 0, 60)])] == ["cheap"]


@pytest.fixture
def table(tmp_path):
    for method, right, price in (("pretrained", 70, None), ("ns", 90, 90_000), ("finetune", 60, 30_000)):
        own = {"forward_equivalents": price}
        stored(tmp_path, method, conditions={"clean": ("clean", None, sure(right, 0.75, 99))}, **own)
        stored(tmp_path, method, "fgsm", conditions={"eps": ("clean", linf(1), outcomes(right - 30))}, **own)
    board = build(*read_results(tmp_path), partial=True)
    return board.tables[0]


def looks(table):
    return {row.label: Look(0) for row in table.rows}


def test_who_is_on_the_front_is_said_in_words(table):
    found = cost(table, looks(table), [])
    assert found.figure.plot.front == ["PRETRAINED", "NS"]
    assert found.words[0] == (
        "On the front, from cheap to good: PRETRAINED (55.0 for no training), NS (75.0 for 90.0 k). "
        "The other row is equalled or beaten by one of these that cost no more."
    )
    bare = replace(table, rows=tuple(replace(row, partial=None) for row in table.rows))
    assert cost(bare, looks(table), []) is None


def test_a_row_of_unknown_cost_is_left_out_and_counted(table):
    rows = [replace(row, cost=None) if row.method == "ns" else row for row in table.rows]
    found = cost(replace(table, rows=tuple(rows)), looks(table), [])
    assert found.figure.plot.front == ["PRETRAINED"]
    assert found.words[-1] == "1 of 3 rows lack an average or a known cost."


def test_calibration_is_of_the_clean_images(table):
    found = {one.name: one for one in calibration(Details(table), table.rows, looks(table))}
    assert set(found) == {"calibration-NS", "calibration-PRETRAINED", "calibration-FINETUNE"}
    (point,) = found["calibration-NS"].plot.series[0].points  # all are equally sure
    low, high = wilson(90, 100)
    assert (point.x, point.y, point.low, point.high, point.n) == pytest.approx((75, 90, 100 * low, 100 * high, 100))
    assert found["calibration-NS"].title == "NS · calibration error 15.0"


def test_clean_against_attacked_accuracy_has_both_intervals(table):
    rows = [(row, row.cells["fgsm"]) for row in table.rows]
    plot = attacked(rows, "clean", "FGSM", looks(table), [])
    found = {one.label: one for one in plot.spots}
    assert (found["NS"].x, found["NS"].y) == (90, 60)
    assert found["NS"].x_ends == (table.rows[0].cells["clean"].low, table.rows[0].cells["clean"].high)
    assert attacked(rows[:1], "clean", "FGSM", looks(table), []) is None


def test_every_figure_of_the_page_carries_its_numbers(table):
    from nsbench.leaderboard import Leaderboard

    text = report.to_html(Leaderboard((table,)))
    names = [one["data-name"] for one in Page(text).all("figure")]
    assert len(set(names)) == len(names) > 6
    assert {"shapes10-cost", "shapes10-calibration-NS", "shapes10-clean-fgsm", "shapes10-scores-clean"} <= set(names)
    part = text[text.index('data-name="shapes10-scores-fgsm"') :]
    cells = re.findall(r"<td>([^<]*)", part[: part.index("</figure>")])
    best = table.rows[0].cells["fgsm"]
    assert cells[0] == "NS"
    assert [float(cell) for cell in cells[1:4]] == pytest.approx([best.value, best.low, best.high], abs=5e-5)


def test_sheets_write_numbers_plainly_and_disarm_formulas():
    sheet = Sheet(("row", "x"), (("=cmd()", -0.5), ("-", 1e-9), ('say "a,b"', None), ("n", 12)))
    assert sheet.csv == 'row,x\n\'=cmd(),-0.5\n\'-,0\n"say ""a,b""",\nn,12\n'


def test_lines_without_intervals_stand_side_by_side():
    series = [
        Series("a", Look(0), [Point(1, 0.5), Point(2, 0.25)]),
        Series("b", Look(1), [Point(2, 0.75)]),
    ]
    found = Lines(series, "round", "loss").sheet
    assert found.heads == ("round", "a: loss", "b: loss")
    assert found.lines == ((1, 0.5, None), (2, 0.25, 0.75))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (950, "950"), (50_000, "50 k"), (2_500_000, "2.5 M"), (3e12, "3 T")]
)
def test_ticks_of_counts_are_short(count, text):
    assert short(count) == text
