"""Exports: golden tables, round trips through the readers that others use, names that try to be markup."""

import io
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from boards import SUITES, N, flags, store
from rich.console import Console

from nsbench import report
from nsbench.errors import ResultError, UnknownName, UsageError
from nsbench.leaderboard import build
from nsbench.report.numbers import figure, margin
from nsbench.report.side_columns import many
from nsbench.report.tables.exports import export, resolve_formats
from nsbench.report.tables.hubs import badge, slug, to_badges, to_huggingface, to_robustbench
from nsbench.report.tables.latex import to_latex
from nsbench.report.tables.tex import escape
from nsbench.report.tables.text import to_markdown
from nsbench.report.tables.tidy import Figure, to_csv, to_frame, to_json
from nsbench.results import OutputCheck, outcomes_path, read_results

COMMITTED = Path(__file__).parents[2] / "reports/showcase/shapes10/results"
HOSTILE = "=cmd|a&b\\input{x}$%#_^~<script>alert(1)</script>\"'`*[x](y)|\n\r\x07\u202e- {{7*7}}"


def board_of(folder, **options):
    return build(*read_results(folder), **options)


@pytest.fixture
def small(tmp_path):
    """Three rows, two columns: figures that can be followed by hand."""
    base = np.arange(N) < 100
    more, slightly = base.copy(), base.copy()
    more[100:130] = True
    slightly[100:103] = True
    for method, clean in (("finetune", base), ("ns", more), ("tiny", slightly)):
        store(tmp_path, method, "clean", clean)
        store(tmp_path, method, "imagenet_c", ~clean)
    return tmp_path


GOLDEN_MARKDOWN = """\
### shapes10 · vit

- ns against finetune, its matched control: better on CLEAN of 2 suites, worse on IMAGENET\\_C (these weights).
- Ahead of all others (these weights): ns on CLEAN; on the other suite no row is.
- Every trained row is of one training, so that what is said of them is said of these weights and not of methods.

| Rank | Method | CLEAN ↑ | IMAGENET\\_C ↓ | Average ↑ |
| ---: | :--- | ---: | ---: | ---: |
|  | ns † | **65.0** ±6.6 | 84.1 ±8.4 | – |
|  | tiny † | 51.5 ±6.9 | <ins>66.6</ins> ±9.1 | – |
|  | finetune † | 50.0 ±6.9 | **64.7** ±9.1 | – |

| Method | IMAGENET\\_C (beyond the line) | Training | Evaluation | Memory | Device |
| :--- | ---: | ---: | ---: | ---: | ---: |
| ns † | 0.0 | 10 s | 4 s | 100 MiB | CPU |
| tiny † | 0.0 | 10 s | 4 s | 100 MiB | CPU |
| finetune † | 0.0 | 10 s | 4 s | 100 MiB | CPU |

- Bold: the best of its column; underlined: cannot be told from the best (paired tests, Holm).
- Rows: best first by CLEAN.
- † One training: interval, bold, rank and verdict are over images and speak of these weights. How another training of \
the method would come out is not known from it: several seeds tell (nsbench run --seed 0,1,2,3,4).
- Effective robustness: percentage points above the line of least squares on logit axes over the 3 rows of this \
table that have both figures; it moves with the rows that are here.
- Training: time of one training run, mean over seeds. Evaluation: time of all evaluations of this row, all seeds. \
Memory: peak memory of the process, the largest of its evaluations.
"""

GOLDEN_LATEX = r"""
\fontsize{8}{9.6}\selectfont\setlength{\tabcolsep}{2.5pt}
\begin{tabular}{@{}rlrrr@{}}
\toprule
 &  & \multicolumn{1}{c}{Clean} & \multicolumn{1}{c}{Out of distribution} & \multicolumn{1}{c}{All eleven} \\
\cmidrule(lr){3-3} \cmidrule(lr){4-4} \cmidrule(lr){5-5}
Rank & Method & CLEAN $\uparrow$ & IMAGENET\_C $\downarrow$ & Average $\uparrow$ \\
\midrule
 & ns \textdagger{} & \textbf{65.0}\,\nsbenchsmall{$\pm$6.6} & 84.1\,\nsbenchsmall{$\pm$8.4} & -- \\
 & tiny \textdagger{} & 51.5\,\nsbenchsmall{$\pm$6.9} & \underline{66.6}\,\nsbenchsmall{$\pm$9.1} & -- \\
 & finetune \textdagger{} & 50.0\,\nsbenchsmall{$\pm$6.9} & \textbf{64.7}\,\nsbenchsmall{$\pm$9.1} & -- \\
\bottomrule
\end{tabular}
\end{table*}
"""


def test_golden_markdown(small):
    assert to_markdown(board_of(small)) == GOLDEN_MARKDOWN


def test_golden_latex(small):
    text = to_latex(board_of(small))
    assert GOLDEN_LATEX in text
    assert text.startswith("% \\usepackage{booktabs,textcomp,array}\n\\providecommand")
    assert "shapes10 \\textperiodcentered{} vit. Top-1 accuracy" in text
    assert r"\label{tab:shapes10-all-images}" in text
    assert "Rows: best first by CLEAN." in text


def test_latex_knows_no_command_from_a_name(small):
    board = hostile(board_of(small))
    line = next(line for line in to_latex(board).splitlines() if line.startswith(" & =cmd"))
    assert r"\input" not in line.replace(r"\textbackslash{}input\{x\}", "")
    assert line.count("&") == 5  # four between cells, and the one of the name
    for bare in ("$", "%", "#", "_"):
        assert not re.search(rf"(?<!\\){re.escape(bare)}", re.sub(r"\$\\(pm|neq)\$", "", line)), bare
    assert escape("a\nb\x00") == "a b"


def hostile(board):
    table = board.tables[0]
    row = replace(table.rows[-1], title=HOSTILE, model=HOSTILE, method=HOSTILE)
    return replace(board, tables=(replace(table, source=HOSTILE, rows=(*table.rows[:-1], row)),))


def test_csv_is_tidy_and_holds_intervals_and_differences(small):
    frame = pd.read_csv(io.StringIO(to_csv(board_of(small))))
    assert len(frame) == 6
    ns = frame[(frame.method == "ns") & (frame.suite == "clean")].iloc[0]
    assert (ns.value, ns.difference, ns.reference) == (65, 15, "finetune")
    assert (ns.verdict, ns.verdict_of) == ("better", "these weights")
    assert ns.difference_low < 15 < ns.difference_high
    assert ns.p == pytest.approx(2 / 2**30)
    assert (ns.rank_first, ns.rank_last, ns.n, ns.best) == (1, 1, N, True)
    tiny = frame[(frame.method == "tiny") & (frame.suite == "imagenet_c")].iloc[0]
    assert (tiny.not_separable_from_best, tiny.rank_first, tiny.rank_last) == (True, 1, 2)
    assert frame.comparable.all()


def test_the_frame_is_the_csv_with_its_own_types(small):
    frame = to_frame(hostile(board_of(small)))
    assert list(frame.columns) == [field.name for field in fields(Figure)]
    assert frame.label.iloc[-1].startswith("=cmd")  # as it is: only a spreadsheet runs it
    assert frame[["value", "low", "high"]].dtypes.eq("float64").all()
    means = frame.pivot(index="label", columns="suite", values="value")
    assert means.loc["ns", "clean"] == 65
    assert to_frame(build([])).empty
    assert to_csv(build([])).startswith("source,image_set,")


def test_csv_text_is_no_formula(small):
    frame = pd.read_csv(io.StringIO(to_csv(hostile(board_of(small)))))
    assert frame.source.iloc[0] == "'" + HOSTILE
    assert frame.label.iloc[-1].startswith("'=cmd")


def test_json_holds_everything_and_no_nan(small):
    record = json.loads(to_json(board_of(small)), parse_constant=pytest.fail)
    (table,) = record["tables"]
    ns = next(row for row in table["rows"] if row["method"] == "ns")
    assert ns["cells"]["clean"]["delta"]["verdict"] == "better"
    assert ns["cells"]["clean"]["results"][0]["weights_digest"] == "ns0"
    assert ns["average"] is None
    assert ns["cost"]["fit_seconds"] == 10
    assert [column["suite"] for column in table["columns"]] == ["clean", "imagenet_c"]
    assert table["columns"][0]["neighbours"] == [1, 2]


def test_cost_and_effective_robustness_stand_in_every_export(tmp_path):
    for index, (method, hits) in enumerate((("a", 100), ("b", 120), ("c", 140))):
        own = {"forward_equivalents": 4_600_000, "fit_seconds": 5400}
        store(tmp_path, method, "clean", np.arange(N) < hits, **own)
        if index < 2:
            store(tmp_path, method, "imagenet_r", np.arange(N) < hits // 2, **own)
        store(tmp_path, method, "imagenet_sketch", np.arange(N) < (60, 70, 100)[index], **own)
    board = board_of(tmp_path)
    logit = np.log(np.array([[0.5, 0.6, 0.7], [0.3, 0.35, 0.5]]) / (1 - np.array([[0.5, 0.6, 0.7], [0.3, 0.35, 0.5]])))
    slope, intercept = np.polyfit(*logit, 1)
    beyond = 50 - 100 / (1 + np.exp(-(intercept + slope * logit[0, 2])))
    (line,) = board.tables[0].lines
    assert line.expected(70) == pytest.approx(50 - beyond)
    frame = pd.read_csv(io.StringIO(to_csv(board)))
    c = frame[(frame.method == "c") & (frame.suite == "imagenet_sketch")].iloc[0]
    assert c.effective_robustness == pytest.approx(beyond)
    assert (c.forward_equivalents, c.fit_seconds, c.evaluation_seconds, c.device) == (4_600_000, 5400, 2, "CPU")
    table = json.loads(to_json(board))["tables"][0]
    assert "over the 3 rows" in table["effective_robustness_lines"][0]["fitted_on"]
    assert "this table has 2" in table["no_effective_robustness"]["imagenet_r"]
    latex = to_latex(board)
    assert rf"c & +{beyond:.1f} & 90 min & 4.6 M & 4 s & 100 MiB & CPU \\" in latex
    assert latex.count(r"\begin{table*}") == 2
    text = to_markdown(board)
    assert f"| c † | +{beyond:.1f} | 90 min | 4.6 M | 4 s | 100 MiB | CPU |" in text
    console = Console(file=io.StringIO(), width=160)
    report.print_tables(report.read_board(tmp_path), console)
    assert re.search(rf"c † +\+{beyond:.1f} +90 min +4.6 M", console.file.getvalue())
    assert "No effective robustness for IMAGENET_R: a line needs at least 3 rows" in console.file.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [(950, "950"), (1234, "1.2 k"), (99_960, "100 k"), (999_600, "1.0 M"), (4.56e6, "4.6 M"), (2e15, "2,000 T")],
)
def test_large_counts_keep_their_size(count, text):
    assert many(count) == text


def test_health_flags_stand_in_every_export(tmp_path):
    result = store(tmp_path, "odd", "clean", np.arange(N) < 100, outputs=OutputCheck(8, True, 0.0))
    sentence = "the outputs of the first 8 images lie in [0, 1] and sum to 1"
    board = board_of(tmp_path)
    (flag,) = board.tables[0].rows[0].flags
    assert sentence in flag.sentence
    assert sentence in json.loads(to_json(board))["tables"][0]["rows"][0]["health_flags"][0]["sentence"]
    assert sentence in pd.read_csv(io.StringIO(to_csv(board))).health[0]
    assert "| odd † ⚑ |" in to_markdown(board)
    assert "the outputs of the first 8 images lie in" in to_markdown(board)
    console = Console(file=io.StringIO(), width=250)
    report.print_tables(report.read_board(tmp_path), console)
    assert sentence in console.file.getvalue()
    outcomes_path(result).write_bytes(b"")
    assert len(board_of(tmp_path).tables[0].rows[0].flags) == 1  # what needs no outcomes is still said


def test_huggingface_reads_a_model_card_for_each_row(small):
    hub = pytest.importorskip("huggingface_hub")
    for board in (board_of(small), hostile(board_of(small))):
        cards = to_huggingface(board)
        assert len(cards) == len(board.tables[0].rows)
        for content, row in zip(cards.values(), board.tables[0].rows, strict=True):
            card = hub.ModelCard(content)
            assert card.data.model_name == row.label
            assert card.data.pipeline_tag == "image-classification"
            again = hub.ModelCard(
                str(hub.ModelCard.from_template(card.data, template_str="---\n{{ card_data }}\n---\n"))
            )
            assert again.data.eval_results == card.data.eval_results, "through EvalResult and back"
        card = hub.ModelCard(next(iter(cards.values())))
        results = card.data.eval_results
        assert card.data.model_name == "ns"
        assert [(one.metric_type, one.metric_value, one.dataset_config) for one in results] == [
            ("accuracy", 65.0, "clean"),
            ("mce", pytest.approx(84.07, abs=0.01), "imagenet_c"),
        ]
        assert results[0].dataset_split == "clean"
        (condition,) = board.tables[0].rows[1].cells["clean"].results[0].conditions
        assert results[0].dataset_revision == condition.data_digest
        assert all(one.dataset_revision for one in results)


def test_a_model_card_says_what_its_intervals_take_as_drawn(tmp_path, committed):
    """A row of several seeds has an interval over images and trainings, in a column and in the average."""
    store(tmp_path, "ns", "clean", np.arange(N) < 100)
    for board, drawn in ((board_of(tmp_path), "95 % over images"), (committed, "95 % over images and trainings")):
        for card in to_huggingface(board).values():
            assert {*re.findall(r'interval: "(.*)"', card)} == {drawn}


def test_robustbench_has_what_its_model_info_asks_for(small):
    files = to_robustbench(board_of(small))
    assert sorted(files) == [f"model_info/shapes10/corruptions/{m}.json" for m in ("finetune", "ns", "tiny")]
    info = json.loads(files["model_info/shapes10/corruptions/ns.json"])
    assert (info["clean_acc"], info["corruptions_acc"], info["corruptions_mce"]) == ("65.00", "35.00", "84.07")
    known = {
        "link",
        "name",
        "authors",
        "additional_data",
        "number_forward_passes",
        "dataset",
        "venue",
        "architecture",
        "eps",
        "clean_acc",
        "reported",
        "corruptions_acc",
        "corruptions_mce",
        "footnote",
    }
    assert set(info) == known
    assert not to_robustbench(replace(board_of(small), tables=()))


def test_hostile_names_are_harmless_paths(small, tmp_path):
    board = hostile(board_of(small))
    for path in to_robustbench(board):
        assert re.fullmatch(r"model_info/[\w-]+/corruptions/[\w-]+\.json", path)
    assert slug("../../etc") != slug("../..etc")
    assert slug("ns") == "ns"
    assert re.fullmatch(r"row-[0-9a-f]{8}", slug("///"))


def full(folder):
    for index, method in enumerate(("finetune", "ns")):
        for suite in SUITES:
            store(folder, method, suite, flags(0.5 + 0.2 * index, index))
    return board_of(folder)


def test_badges_are_svg_with_the_average(tmp_path):
    board = full(tmp_path)
    files = to_badges(board)
    assert sorted(files) == [f"badges/{slug('shapes10 all images')}/{m}.svg" for m in ("finetune", "ns")]
    row = board.tables[0].rows[0]
    text = badge(replace(row, title=HOSTILE))
    root = ElementTree.fromstring(text)
    assert not root.findall(".//{*}script")
    assert f"{row.average.value:.1f}" in "".join(root.itertext())
    assert "rank 1" in root.get("aria-label")


def test_every_format_is_written_and_an_unknown_one_lists_them(tmp_path):
    full(tmp_path / "results")
    formats = resolve_formats("html,md,latex,csv,json,hf,robustbench,badge,html")
    written = report.render_formats(tmp_path / "results", tmp_path / "out", formats)
    names = [str(path.relative_to(tmp_path / "out")) for path in written]
    assert names[:6] == [
        "index.html",
        "leaderboard.md",
        "leaderboard.tex",
        "leaderboard.csv",
        "leaderboard.json",
        next(name for name in names if name.startswith("model_cards/shapes10-") and name.endswith(".md")),
    ]
    assert all(path.stat().st_size for path in written)
    with pytest.raises(UnknownName, match=r"unknown format 'pdf'.*Known: badge, csv, figures, hf"):
        resolve_formats("pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="choose another place"):
        export(build([]), tmp_path / "file" / "x", ["md"])


def test_the_terminal_shows_a_paired_comparison(small):
    console = Console(file=io.StringIO(), width=160)
    report.print_comparison(report.read_board(small), "ns", "finetune", console)
    printed = console.file.getvalue()
    assert "ns  −  finetune" in printed
    assert re.search(r"CLEAN ↑\s+65\.0\s+50\.0\s+\+15\.0\s+\+9\.8 to \+19\.9\s+< 0\.001\s+30 / 0\s+better", printed)
    assert re.search(r"IMAGENET_C ↓ .* worse † \(paired bootstrap\)", printed)
    with pytest.raises(UsageError, match="'nobody' is no row"):
        report.print_comparison(report.read_board(small), "ns", "nobody", console)


@pytest.fixture(scope="module")
def committed():
    return board_of(COMMITTED)


@pytest.mark.parametrize("width", [80, 250])
def test_the_committed_leaderboard_is_whole_at_any_width(committed, width):
    console = Console(file=io.StringIO(), width=width)
    report.print_tables(committed, console)
    report.print_comparison(committed, "ns", "finetune", console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    compared = lines[next(k for k, line in enumerate(lines) if "95 % interval" in line) :]
    (table,) = committed.tables
    for column in table.columns:
        assert sum(line.lstrip().startswith(f"{column.title} ") for line in compared) == 1
        for row in table.rows:
            assert any(
                f"{figure(row.cells[column.suite].value)} {margin(row.cells[column.suite])}" in line for line in lines
            )


@pytest.mark.parametrize(("terminal", "best", "tied"), [(True, "Bold", "underlined"), (False, "\\*", "≈")])
def test_marks_are_explained_and_are_signs_where_nothing_is_bold(small, terminal, best, tied):
    console = Console(file=io.StringIO(), width=250, force_terminal=terminal, _environ={"TERM": "xterm"})
    report.print_tables(board_of(small), console)
    shown = console.file.getvalue()
    assert re.search(f"{best}: the best of its column; {tied}: cannot be told from the best", shown)
    assert [sign in shown for sign in ("\x1b[1m65.0", "\x1b[4m66.6")] == [terminal, terminal]
    assert [sign in shown for sign in ("* 65.0 ±", "≈ 66.6 ±")] == [not terminal, not terminal]


def test_the_terminal_says_what_is_separable(tmp_path):
    full(tmp_path)
    console = Console(file=io.StringIO(), width=250)
    report.print_tables(report.read_board(tmp_path), console)
    assert "By average 1 of 1 adjacent pair can be told apart." in console.file.getvalue()


def test_a_partial_average_is_named_as_one_everywhere(small):
    board = board_of(small, partial=True)
    assert "Average of 2 ↑" in to_markdown(board)
    assert "It is not the average of the eleven" in to_markdown(board)
    assert "Average of 2" in to_latex(board)
    assert "Average of 2" in report.to_html(board)
    assert json.loads(to_json(board))["tables"][0]["partial_suites"] == ["clean", "imagenet_c"]


def test_a_narrow_terminal_has_a_line_for_each_part_of_a_name_and_no_ranks_where_there_are_none(small):
    """A column as wide as its row's whole name left room for one row a table."""
    board = board_of(small)
    (table,) = board.tables
    long = ("checkpoint 2d7d1c68", "epsilon 0.03", "noise_stop held-out")
    board = replace(board, tables=(replace(table, rows=tuple(replace(row, qualifiers=long) for row in table.rows)),))
    console = Console(file=io.StringIO(), width=78)
    report.print_tables(board, console)
    shown = console.file.getvalue()
    lines = [line.split() for line in shown.splitlines()]
    at = lines.index(["ns", "tiny"])  # two of three to a table of this width
    assert lines[at + 1 : at + 3] == [["checkpoint", "2d7d1c68"] * 2, ["epsilon", "0.03"] * 2]
    assert "Rank" not in shown
