"""Columns of confidence: in every format that has side columns, with a dash and a note for results without them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from page_results import outcomes, stored
from rich.console import Console

from nsbench import report
from nsbench.leaderboard import Leaderboard, build
from nsbench.report.side_columns import CONFIDENCE, SideColumn, side_columns, side_notes
from nsbench.report.tables.latex import to_latex
from nsbench.report.tables.tidy import to_csv, to_json
from nsbench.results import read_results
from nsbench.types import Outcomes

TITLES = ["Top-5", "Calibration error", "Accuracy, surest 80 %"]
NO_PROBABILITIES = "Rows without confidence are of older versions, whose results hold no probabilities."


def sure(right: int, confidence: float, in_top5: int, classes: int = 10) -> Outcomes:
    """Everywhere as confident; the label of the first images is among the five best classes."""
    one = outcomes(right)
    others = np.tile(np.arange(2, 6), (100, 1))
    top5 = np.concatenate([one.predictions[:, None], others], axis=1)
    top5[right:in_top5, 1] = 0  # the label
    return replace(
        one,
        label_probability=np.where(one.correct, confidence, 0.01).astype(np.float32),
        confidence=np.full(100, confidence, dtype=np.float32),
        top5=top5[:, : min(classes, 5)],
    )


def board(folder: Path, **kept: Outcomes) -> Leaderboard:
    """`kept`: outcomes on the clean images by method."""
    for method, one in kept.items():
        stored(folder, method, conditions={"clean": ("clean", None, one)})
        stored(folder, method, "fgsm", conditions={"eps": ("fgsm", None, one)})
    return build(*read_results(folder))


@pytest.fixture
def mixed(tmp_path: Path) -> Leaderboard:
    return board(tmp_path, ns=sure(95, 0.9, 98), finetune=sure(90, 0.75, 99), pretrained=outcomes(70))


def test_they_are_those_of_the_clean_column(mixed: Leaderboard) -> None:
    found = {one.title: one for one in side_columns(mixed.tables[0]) if one.group == CONFIDENCE}
    assert list(found) == TITLES
    assert found["Top-5"].values == {"NS": 98, "FINETUNE": 99}
    assert found["Calibration error"].values == pytest.approx({"NS": 5, "FINETUNE": 15}, abs=1e-4)
    assert found["Accuracy, surest 80 %"].values == pytest.approx(
        {"NS": 95, "FINETUNE": 90}
    )  # ties: the mean over their orders
    assert [one.better for one in found.values()] == ["higher", "lower", "higher"]
    assert "15 bins of equal mass" in found["Calibration error"].summary


def test_every_format_shows_them_and_says_what_old_rows_lack(mixed: Leaderboard) -> None:
    page, markdown, latex = report.to_html(mixed), report.to_markdown(mixed), to_latex(mixed)
    assert '<th scope="colgroup" colspan="3"><span>Confidence</span></th>' in page
    assert '<span class="arrow" aria-hidden="true">↓</span><span class="sr">confidence, lower is better</span>' in page
    assert page.count('<td class="side">–</td>') == 2  # the first one of a group has a class of its own
    assert "| Method | Top-5 (Clean) | Calibration error (Clean) | Accuracy, surest 80 % (Clean) |" in markdown
    assert "| NS † | 98.0 | 5.0 | 95.0 |" in markdown
    assert "| PRETRAINED | – | – | – |" in markdown
    assert r"NS & 98.0 & 5.0 & 95.0 & CPU \\" in latex
    console = Console(file=io.StringIO(), width=200)
    report.print_tables(mixed, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Confidence" in printed
    for text in (page, markdown, latex, printed):
        assert NO_PROBABILITIES in text
        assert "15 bins of equal mass" in text


def test_csv_and_json_hold_them(mixed: Leaderboard) -> None:
    frame = pd.read_csv(io.StringIO(to_csv(mixed))).set_index(["method", "suite"])
    assert frame.loc[("finetune", "clean"), "top5_accuracy"] == 99
    assert frame.loc[("finetune", "fgsm"), "calibration_error"] == pytest.approx(15, abs=1e-4)
    assert frame.loc[("ns", "clean"), "selective_accuracy"] == pytest.approx(95)
    assert np.isnan(frame.loc[("pretrained", "clean"), "top5_accuracy"])
    rows = {row["method"]: row["confidence"] for row in json.loads(to_json(mixed))["tables"][0]["rows"]}
    assert rows["ns"]["top-5 accuracy"] == 98
    assert rows["pretrained"] is None


def test_nothing_is_said_where_no_row_has_them(tmp_path: Path) -> None:
    old = board(tmp_path, ns=outcomes(95), pretrained=outcomes(70))
    assert not [one for one in side_columns(old.tables[0]) if one.group == CONFIDENCE]
    console = Console(file=io.StringIO(), width=200)
    report.print_tables(old, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    for text in (report.to_html(old), report.to_markdown(old), to_latex(old), to_csv(old), to_json(old), printed):
        assert not {"calibration", "confidence"} & set(text.lower().replace("_", " ").split())


def test_all_rows_may_have_them_and_few_classes_have_no_top_5(tmp_path: Path) -> None:
    (table,) = board(tmp_path, ns=sure(95, 0.9, 98, classes=3)).tables
    assert [one.title for one in side_columns(table) if one.group == CONFIDENCE] == TITLES[1:]
    assert NO_PROBABILITIES not in side_notes(table)
    assert any("Confidence is that on Clean" in note for note in side_notes(table))


def test_other_images_are_no_part_of_the_columns(mixed: Leaderboard) -> None:
    (table,) = mixed.tables
    apart = [
        replace(row, cells={**row.cells, "clean": replace(row.cells["clean"], reason="other images")})
        if row.method == "ns"
        else row
        for row in table.rows
    ]
    found = next(one for one in side_columns(replace(table, rows=tuple(apart))) if one.title == "Top-5")
    assert found.values == {"FINETUNE": 99}


def test_pages_are_alike_on_machines_that_sum_in_another_order() -> None:
    column = SideColumn(CONFIDENCE, "ECE", "", {"a": 0.1 + 0.2, "b": 0.3, "c": "float32"}, {})
    assert column.to_sort_by("a") == column.to_sort_by("b") == "0.3"
    assert column.to_sort_by("c") == "float32"
