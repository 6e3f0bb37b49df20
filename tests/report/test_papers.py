"""Figures for papers: files that parse, with the table's numbers in them, the same bytes each time."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from page_results import HOSTILE, linf, outcomes, stored
from test_confidence import sure
from test_page import corrupted

from nsbench.leaderboard import build
from nsbench.report.numbers import figure
from nsbench.report.papers import to_figures
from nsbench.report.tables.exports import export
from nsbench.results import read_results
from nsbench.statistics.corruption_error import mean_corruption_error

METHODS = (("pretrained", 70, 2, None), ("ns", 95, 0, 90_000), ("finetune", 80, 1, 30_000))


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for method, right, shift, cost in METHODS:
        own = {"forward_equivalents": cost} | ({"title": f"$_{HOSTILE}"} if method == "finetune" else {})
        stored(folder, method, conditions={"clean": ("clean", None, sure(right, 0.85, 99))}, **own)
        budgets = {f"eps {k}/255": ("clean", linf(k), outcomes((right - 20) // k)) for k in (1, 2, 4)}
        stored(folder, method, "fgsm", conditions=budgets, **own)
        stored(folder, method, "imagenet_c", score=mean_corruption_error, conditions=corrupted(shift), **own)
    return build(*read_results(folder), partial=True)


@pytest.fixture(scope="module")
def files(board):
    return to_figures(board)


def test_every_figure_is_pdf_svg_and_csv_named_after_table_and_figure(files):
    stems = {path.rpartition(".")[0] for path in files}
    assert {f"{stem}.{kind}" for stem in stems for kind in ("pdf", "svg", "csv")} == set(files)
    assert {
        f"figures/shapes10-{name}"
        for name in ("scores-average", "scores-clean", "scores-fgsm", "budgets-fgsm", "clean-fgsm", "cost", "ranks")
    } <= stems
    assert {"figures/shapes10-calibration-NS", "figures/shapes10-errors-imagenet_c-NS"} <= stems
    assert all(re.fullmatch(r"figures/[\w.-]+", stem) for stem in stems)


def test_files_parse_and_are_one_or_two_columns_wide(files):
    widths = set()
    for path, content in files.items():
        if path.endswith(".svg"):
            root = ElementTree.fromstring(content)
            assert not root.findall(".//{*}script")
            assert not root.findall(".//{*}date")
            widths.add(round(float(root.get("width").removesuffix("pt")) / 72, 3))
        elif path.endswith(".pdf"):
            assert content.startswith(b"%PDF-")
            assert content.rstrip().endswith(b"%%EOF")
            assert b"CreationDate" not in content
            assert b"/Type3" not in content
    assert widths == {3.3, 6.8}


def test_their_numbers_are_the_tables(board, files):
    (table,) = board.tables
    for suite in ("clean", "fgsm", "imagenet_c"):
        found = pd.read_csv(io.StringIO(files[f"figures/shapes10-scores-{suite}.csv"])).set_index("row")
        drawn = ElementTree.fromstring(files[f"figures/shapes10-scores-{suite}.svg"])
        texts = {"".join(text.itertext()).strip() for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
        for row in table.rows:
            cell = row.cells[suite]
            assert found.loc[row.label].tolist() == pytest.approx([cell.value, cell.low, cell.high], abs=5e-5)
            assert f"{figure(cell.value)} ±{figure((cell.high - cell.low) / 2)}" in texts


def test_cost_and_its_front_are_those_of_the_rows(board, files):
    found = pd.read_csv(io.StringIO(files["figures/shapes10-cost.csv"])).set_index("row")
    cost = found.iloc[:, 0]
    assert (cost["PRETRAINED"], cost["NS"]) == (0, 90_000)
    (table,) = board.tables
    values = {row.method: row.partial.value for row in table.rows}
    assert values["pretrained"] < values["finetune"] < values["ns"]  # so that all are on it
    assert set(found["on the front"]) == {"yes"}


def test_the_same_results_give_the_same_bytes(board, files):
    again = to_figures(board)
    assert all(again[path] == content for path, content in files.items())


def test_they_are_written_as_they_are(board, files, tmp_path):
    written = export(board, tmp_path, ["figures"])
    assert {str(path.relative_to(tmp_path)) for path in written} == set(files)
    assert Path(tmp_path / "figures/shapes10-cost.pdf").read_bytes() == files["figures/shapes10-cost.pdf"]
