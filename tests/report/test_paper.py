"""Tables for papers: what was asked for, as wide as a page at the most, and accepted by TeX where there is one."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from boards import N, store
from click.testing import CliRunner
from matplotlib._afm import AFM

from nsbench.cli.main import main
from nsbench.errors import UnknownName
from nsbench.leaderboard import build
from nsbench.report.tables.latex import to_latex
from nsbench.report.tables.paper import GAP, PAGE, SIZE, PaperLayout, parts, total, width
from nsbench.results import read_results

COMMITTED = Path(__file__).parents[2] / "reports/showcase/shapes10/results"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "afm"
# at 8 pt Computer Modern is cut 1/16 wider than at the 10 pt of this file, and 3/20 wider at 6 pt
CUT = {"cmr10": {8: 17 / 16, 6: 23 / 20}, "ptmr8a": {8: 1, 6: 1}, "ptmb8a": {8: 1, 6: 1}}
TEX = next((name for name in ("pdflatex", "lualatex", "tectonic") if shutil.which(name)), None)
LONG = "vit_base_patch16_224.augreg_in21k_ft_in1k and more of a name"


@pytest.fixture(scope="module")
def committed():
    return build(*read_results(COMMITTED))


def measured(font, text, size):
    """The width in pt by the font's own metrics; cmr10 has neither space nor underscore (TeX draws both)."""
    with (FONTS / f"{font}.afm").open("rb") as file:
        metrics = AFM(file)
    drawn = {" ": 333, "_": 500}
    return sum(drawn.get(c) or metrics.get_width_char(ord(c)) for c in text) * CUT[font][size] * size / 1000


@pytest.mark.parametrize("font", CUT)
@pytest.mark.parametrize("size", [8, 6])
def test_the_count_is_wider_than_the_fonts_and_not_much(font, size, committed):
    (table,) = committed.tables
    words = [row.label for row in table.rows] + [column.title for column in table.columns]
    words += ["vit_tiny_patch16_224", "0123456789", "Out of distribution", "1,565 MiB", "CPU (x86_64), 2 threads"]
    for text in words:
        counted = width(text, size, bold=font == "ptmb8a")
        assert counted >= measured(font, text, size), text
        assert font != "cmr10" or counted <= 1.2 * measured(font, text, size) or len(text) < 9, text


def tables_of(text):
    return re.findall(r"\\begin\{table\*\}.*?\\end\{table\*\}", text, re.DOTALL)


def shown(line):
    """Cells of a line of TeX as the characters that they show, with their sizes."""
    for cell in line.removesuffix(r" \\").split(" & "):
        large, _, small = cell.partition(r"\nsbenchsmall")
        yield [(plain(large), SIZE), (plain(small), 6.0)]


def plain(tex):
    signs = {r"$\pm$": "±", r"$\sigma$": "σ", r"$\uparrow$": "↑", r"$\downarrow$": "↓", "--": "–", r"\_": "_"}
    for sign, character in signs.items():
        tex = tex.replace(sign, character)
    tex = tex.replace(r"\textdagger{}", "†").replace(r"\allowbreak{}", "")
    return re.sub(r"\\(textbf|textit|underline|,)|[{}]", "", tex)


def set_width(table):
    """The width in pt of a table as it stands, cell by cell, by the metrics of Computer Modern."""
    lines = [line for line in table.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    wide = {"±": 0.78, "σ": 0.57, "↑": 0.5, "↓": 0.5, "–": 0.5, "†": 0.45}

    def one(text, size):
        known = sum(wide.get(c, 0.0) for c in text) * size * CUT["cmr10"][int(size)]
        return known + measured("cmr10", "".join(c for c in text if c not in wide), int(size))

    cells = [[sum(one(text, size) for text, size in cell) for cell in shown(line)] for line in lines]
    assert len({len(line) for line in cells}) == 1
    return total([max(column) for column in zip(*cells, strict=True)])


@pytest.mark.parametrize("layout", [PaperLayout(), PaperLayout(deviation=False), PaperLayout((), False, False)])
def test_every_table_of_the_showcase_fits_the_page(committed, layout):
    tables = tables_of(to_latex(committed, layout))
    assert len(tables) == 4  # both halves of the figures, and of what stands beside them
    for table in tables:
        assert set_width(table) <= PAGE
        assert "resizebox" not in table
    adversarial, shifted = tables[:2]
    assert "Part 1 of 2 (Clean, Adversarial, All eleven): all columns together are wider than the page" in adversarial
    assert [suite in adversarial for suite in ("FGSM $", "Sketch $")] == [True, False]
    assert [suite in shifted for suite in ("FGSM $", "Sketch $")] == [False, True]
    assert all("Average $\\uparrow$" in table for table in (adversarial, shifted))
    assert (r"\nsbenchsmall{$\pm$" in adversarial) == layout.interval
    assert (r"$\sigma$0." in adversarial) == layout.deviation
    assert ("half the 95" in adversarial) == layout.interval
    assert len({*re.findall(r"\\label\{(.*?)\}", "".join(tables))}) == 4


def test_the_caption_has_the_protocol(committed):
    adversarial, shifted = tables_of(to_latex(committed))[:2]
    for words in ("at most 1,000 a condition", "crop 48", "recipe shapes10", "FGSM l-inf 1/255", "CW l2 unbounded"):
        assert words in adversarial
    assert "FGSM" not in shifted  # of columns that are not here nothing is said


def test_a_caption_explains_the_columns_of_its_own_table(committed):
    beyond, cost = [re.search(r"\\caption\{(.*)\}", table)[1] for table in tables_of(to_latex(committed))[2:]]
    assert [word in beyond for word in ("Effective robustness: percentage", "Forwards: what")] == [True, False]
    assert [word in cost for word in ("Effective robustness", "Forwards: what one training run cost")] == [False, True]


def test_columns_are_suites_and_groups(committed):
    (one, *_) = tables_of(to_latex(committed, PaperLayout(("clean", "imagenet_r", "average"), deviation=False)))
    assert re.findall(r"^Rank & Method & (.*) \\\\$", one, re.MULTILINE) == [
        r"Clean $\uparrow$ & R $\uparrow$ & Average $\uparrow$"
    ]
    (one, *_) = tables_of(to_latex(committed, PaperLayout(("ood",))))
    assert "\nMethod & A $" in one  # ranks are those of the average
    assert "Ranks hold" not in one
    with pytest.raises(UnknownName, match=r"unknown column 'oood'.*Known: adversarial, average, clean"):
        to_latex(committed, PaperLayout(("oood",)))


def test_a_table_without_what_was_asked_for_is_left_out(tmp_path):
    store(tmp_path, "ns", "clean", np.arange(N) < 100)
    store(tmp_path, "ns", "fgsm", np.arange(N) < 100, preprocessing="crop 96", identity="other")
    board = build(*read_results(tmp_path))
    assert len(board.tables) == 2
    found = [table for table in tables_of(to_latex(board, PaperLayout(("fgsm",)))) if "beside" not in table]
    assert re.findall(r"^Method & (.*) \\\\$", "".join(found), re.MULTILINE) == [r"FGSM $\uparrow$"]
    labels = re.findall(r"\\label\{(.*?)\}", to_latex(board))
    assert len({*labels}) == len(labels)


def test_more_columns_than_a_page_go_on_in_the_next_table(tmp_path):
    widths = [60.0] * 21
    second = [k >= 10 for k in range(21)]
    found = parts(second, widths, 100.0, 50.0)
    assert [k for part in found for k in part] == list(range(21))
    assert all(total([100.0, *(widths[k] for k in part), 50.0]) <= PAGE for part in found)
    assert [len(part) for part in found] == [5, 5, 4, 4, 3]
    room = PAGE - 150 - 2 * GAP
    exact = [(room - GAP) / 2] * 2
    assert parts([False, True], exact, 100.0, 50.0) == [[0, 1]]
    assert parts([False, True], [exact[0], exact[1] + 0.01], 100.0, 50.0) == [[0], [1]]


def test_a_long_name_is_broken_and_not_wider(tmp_path):
    store(tmp_path, "ns", "clean", np.arange(N) < 100)
    board = build(*read_results(tmp_path))
    (table,) = board.tables
    named = replace(board, tables=(replace(table, rows=(replace(table.rows[0], title=LONG),)),))
    text = to_latex(named)
    assert r">{\raggedright\arraybackslash}p{96pt}" in text
    assert r"vit\_\allowbreak{}base\_" in text


def test_options_of_the_command(tmp_path):
    def run(*options):
        return CliRunner().invoke(main, ["report", "--results", str(COMMITTED), "--out", str(tmp_path), *options])

    done = run("--format", "latex", "--columns", "adversarial", "--no-interval", "--no-deviation")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "leaderboard.tex").read_text()
    assert "FGSM" in text
    assert "Sketch $" not in text
    assert "nsbenchsmall{$" not in text
    refused = run("--columns", "adversarial")
    assert refused.exit_code == 2
    assert "are of --format latex" in refused.output
    unknown = run("--format", "html,latex", "--columns", "sketchy")
    assert "unknown column 'sketchy'" in unknown.output
    assert not (tmp_path / "index.html").exists()


@pytest.mark.skipif(TEX is None, reason="no TeX engine is installed")
@pytest.mark.parametrize("layout", [PaperLayout(), PaperLayout((), False, False)])
def test_tex_sets_it_without_an_overfull_box(committed, layout, tmp_path):
    head = r"\documentclass[twocolumn]{article}\usepackage{booktabs,textcomp,array}\setlength{\textwidth}{7in}"
    body = rf"{head}\begin{{document}}{to_latex(committed, layout)}\end{{document}}"
    (tmp_path / "paper.tex").write_text(body, encoding="utf-8")
    options = [] if TEX == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([TEX, *options, "paper.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout + done.stderr
