"""The page, the terminal table and Markdown: true to the leaderboard, safe with hostile names, self-contained."""

import ast
import io
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jinja2
import numpy as np
import pytest
from page_results import HOSTILE, Page, linf, one_round, outcomes, stored
from rich.console import Console

from nsbench import report
from nsbench.leaderboard import build
from nsbench.leaderboard.details import Details
from nsbench.report.page import charts, page
from nsbench.report.published import beside, published_rows
from nsbench.report.tables.latex import to_latex
from nsbench.report.tables.tidy import to_json
from nsbench.results import RecipeUsed, read_results
from nsbench.statistics import ALEXNET_ERROR, SEVERITIES
from nsbench.statistics.corruption_error import corruption_errors, mean_corruption_error
from nsbench.types import Outcomes


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    stored(folder, "pretrained", right=70)
    stored(
        folder,
        "ns",
        right=95,
        history=tuple(one_round(r, 10.0 + r, converged=r > 1) for r in (1, 2, 3)),
    )
    stored(
        folder,
        "ns",
        "fgsm",
        conditions={f"eps {k}/255": ("clean", linf(k), outcomes(60 // k)) for k in (1, 2, 4)},
    )
    stored(
        folder,
        "ns",
        "imagenet_c",
        score=mean_corruption_error,
        conditions={
            f"{c}/{s}": (f"c/{c}/{s}", None, outcomes(100 - 10 * s)) for c in ALEXNET_ERROR for s in SEVERITIES
        },
    )
    return folder


def rendered(results, tmp_path):
    return report.render(results, tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_page_shows_values_intervals_best_and_missing(results, tmp_path):
    text = rendered(results, tmp_path)
    found = Page(text)
    assert '<span class="v">95.0</span><span class="ci">+2.8\n−6.2</span>' in text  # Wilson: 88.8 to 97.8
    assert len(found.all("td", "best")) == 1  # the only column with two rows
    assert len(found.all("td", "missing")) == 4  # two suites of pretrained, and both averages
    assert any("n = 100 images" in (cell.get("title") or "") for cell in found.all("td"))
    assert any("3 of 11 are here" in (cell.get("title") or "") for cell in found.all("td", "missing"))
    heads = [attrs["title"] for attrs in found.all("button") if "title" in attrs]
    assert heads[2] == "The protocol of clean. (Somebody 2025)"


def test_the_page_has_curve_heat_map_dynamics_and_commands(results, tmp_path):
    text = rendered(results, tmp_path)
    assert text.count('<td style="--h:') == 75
    assert "Accuracy as the attack grows" in text
    assert "accuracy, % over ε in 1/255, ℓ∞: NS from 95 to 15" in text  # from the clean images at zero
    assert "Norm of the noise" in text
    assert "ε = 0.03" in text
    assert "In 1 of 3 rounds the noise was still outside ε" in text
    assert "nsbench run --method ns --suite clean" in text
    assert "weights-ns" in text


def test_no_curve_point_at_zero_without_the_same_images_unattacked(tmp_path):
    folder = tmp_path / "results"
    stored(
        folder,
        "ns",
        "fgsm",
        conditions={f"eps {k}/255": ("other", linf(k), outcomes(60 // k)) for k in (1, 2, 4)},
    )
    stored(folder, "ns", right=95)
    assert "ℓ∞: NS from 60 to 15" in rendered(folder, tmp_path)


def test_the_page_is_self_contained(results, tmp_path):
    text = rendered(results, tmp_path)
    loads = ("src", "srcset", "data", "poster", "xlink:href")
    for tag, attributes in Page(text).tags:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base"}
        assert not set(attributes) & set(loads)
        assert attributes.get("href", "#").startswith("#")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", text)


def test_hostile_names_are_text(tmp_path):
    folder = tmp_path / "results"
    safe = stored(folder, "pretrained")
    stored(
        folder,
        "ns",
        title=HOSTILE,
        command=HOSTILE,
        weights_digest=HOSTILE,
        device=HOSTILE,
        date=HOSTILE,
        recipe=RecipeUsed(HOSTILE, 0, {HOSTILE: HOSTILE}),
        history=tuple(one_round(r, 1.0 + r) for r in (1, 2)),
    )
    broken = safe.path.with_name("<img src=x onerror=alert(3)>.json")
    broken.write_text("{")
    text = rendered(folder, tmp_path)
    found = Page(text)
    assert len(found.all("script")) == 1
    assert not found.all("img")
    assert not [attrs for _, attrs in found.tags if any(name.startswith("on") for name in attrs)]
    assert HOSTILE in "".join(found.text)  # shown as it is, not run, not filled in


def test_a_broken_file_is_named_and_the_rest_is_shown(results, tmp_path):
    broken = results / "shapes10" / "vit_shapes10" / "ns" / "half.seed0.json"
    broken.write_text('{"schema": 1, "source":')
    text = rendered(results, tmp_path)
    assert "1 file that cannot be read" in text
    assert "half.seed0.json" in text
    assert '<span class="v">95.0</span>' in text


def test_an_empty_folder_says_how_to_begin(tmp_path):
    assert "There are no results yet" in rendered(tmp_path, tmp_path)


def test_undefined_names_raise_instead_of_vanishing(results, tmp_path, monkeypatch):
    monkeypatch.delattr(page.TableView, "groups")
    with pytest.raises(jinja2.UndefinedError, match="groups"):
        rendered(results, tmp_path)


def test_the_report_reads_only_the_board():
    """What it shows of files comes from the leaderboard; only the functions that take a folder read results."""
    readers = {
        name
        for path in Path(report.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("nsbench.results")
        for name in [(path.name, alias.name) for alias in node.names]
        if node.module != "nsbench.results.record" and alias_reads(name[1])
    }
    assert readers <= {("boards.py", "read_results"), ("boards.py", "read_result"), ("__init__.py", "read_results")}
    assert ("boards.py", "read_results") in readers


def alias_reads(name):
    """Whether it is a function that opens files."""
    return name.startswith(("read_", "outcomes_", "write_", "parse_"))


def test_a_folder_gets_an_index_and_an_unwritable_place_one_clear_line(results, tmp_path):
    assert report.render(results, tmp_path / "site").name == "index.html"
    with pytest.raises(report.ResultError, match="choose another place"):
        report.render(results, results / "shapes10" / "vit_shapes10" / "ns" / "clean.seed0.json" / "page.html")


def test_the_same_results_give_the_same_page(results, tmp_path):
    assert rendered(results, tmp_path) == rendered(results, tmp_path)


def test_published_rows_stand_beside_imagenet_only():
    assert published_rows("shapes10", "vit_shapes10") == []
    small = published_rows("imagenet", "vit_small_patch16_224")
    assert [row.method for row in small] == ["pretrained", "ns"]
    assert small[1].figures["imagenet_c"] == 55.98
    assert small[1].figures["average"] == 34.45
    everything = published_rows("imagenet", "vit_tiny_patch16_224")
    assert len(everything) == 14
    assert "fgsm" not in next(row for row in everything if row.method == "mixup").figures  # not reported, not zero


def test_our_figures_stand_beside_the_published_ones_with_what_differed(tmp_path):
    folder = tmp_path / "results"
    for method in ("pretrained", "ns", "madry"):
        stored(
            folder,
            method,
            "clean",
            source="imagenet",
            model="vit_small_patch16_224",
            right=70,
        )
    stored(folder, "ns", "fgsm", source="imagenet", model="vit_tiny_patch16_224")
    (table,) = build(read_results(folder)[0]).tables
    found = {one.label: one for one in beside(table)}
    assert len(found) == 2
    ns = next(one for label, one in found.items() if label.startswith("ns") or "NS" in label)
    assert ns.difference == pytest.approx(70 - 77.47)
    assert ns.differs == (
        "start: timm's ViT, ImageNet-21k then ImageNet-1k there",
        "normalisation: the checkpoint's own here, ImageNet's mean and std in the authors' code",
        "recipe: 'quick' here; the authors' code adds augmentation that the paper does not state",
        "images: 100 here, 50,000 there",
        "origin of the images here: embedded",
    )
    record = json.loads(to_json(build(read_results(folder)[0])))
    assert [one["published"] for one in record["tables"][0]["beside_published"]] == [
        one.published.figures["clean"] for one in beside(table)
    ]


def test_published_rows_are_never_marked_or_ranked(tmp_path):
    folder = tmp_path / "results"
    stored(folder, "pretrained", source="imagenet", model="vit_small_patch16_224", right=10)
    text = rendered(folder, tmp_path)
    reported = text[text.index('<tbody class="reported">') :]
    assert "77.5" in reported
    assert "best" not in reported[: reported.index("</tbody>")]
    assert "rank" not in reported[: reported.index("</tbody>")]


def test_terminal_and_markdown_have_the_pages_order_and_rounding(results):
    console = Console(file=io.StringIO(), width=200)
    report.print_tables(report.read_board(results), console)
    printed = console.file.getvalue()
    board = build(read_results(results)[0])
    markdown = report.to_markdown(board)
    for text in (printed, markdown):
        assert text.index("NS") < text.index("PRETRAINED")
        assert "±4.5" in text
    assert "**95.0** ±4.5" in markdown
    assert "\x1b" not in printed  # plain where it is no terminal


def test_markdown_names_cannot_break_out_of_their_column(results):
    board = build(read_results(results)[0])
    row = replace(board.tables[0].rows[0], title="a|b\n**c**<b>")
    board = replace(board, tables=(replace(board.tables[0], rows=(row,)),))
    line = next(line for line in report.to_markdown(board).splitlines() if "a\\|b" in line)
    assert r"a\|b \*\*c\*\*&lt;b&gt;" in line
    assert len(re.findall(r"(?<!\\)\|", line)) == len(board.tables[0].columns) + 4


def test_chart_labels_never_overlap():
    placed = charts._spread([50, 51, 52, 200], 18, 210)
    ordered = sorted(placed)
    assert all(b - a >= 15 - 1e-9 for a, b in pairwise(ordered))
    assert placed[3] == 200


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 100, [0, 20, 40, 60, 80, 100]), (0, 0.033, [0, 0.01, 0.02, 0.03]), (97.2, 99.1, [97.5, 98, 98.5, 99])],
)
def test_ticks_are_round(low, high, expected):
    assert charts.ticks(low, high) == expected


def test_relative_mce_is_that_of_the_outcomes(tmp_path):
    rng = np.random.default_rng(0)

    def drawn(share, n=60):
        ids = np.array([f"clean/i{i:03d}" for i in range(n)])
        return Outcomes(ids, np.zeros(n, dtype=np.int64), (rng.random(n) > share).astype(np.int64))

    folder = tmp_path / "results"
    clean = drawn(0.8, 90)  # more images than were corrupted
    stored(folder, "ns", "clean", conditions={"clean": ("clean", None, clean)})
    corrupted = {f"{c}/{s}": drawn(0.9 - 0.1 * s) for c in ALEXNET_ERROR for s in SEVERITIES}
    stored(
        folder,
        "ns",
        "imagenet_c",
        score=mean_corruption_error,
        conditions={name: (f"c/{name}", None, one) for name, one in corrupted.items()},
    )
    (table,) = build(*read_results(folder)).tables
    (row,) = table.rows
    expected = corruption_errors(corrupted, clean).relative_mce.value
    assert Details(table).relative_mce(row, "imagenet_c") == pytest.approx(expected, abs=1e-3)
    assert Details(table).relative_mce(row, "clean") is None
    assert f"{expected:.1f}" in rendered(folder, tmp_path)
    stored(folder, "ns", "clean", conditions={"clean": ("clean", None, clean)}, weights_digest="others")
    (table,) = build(*read_results(folder)).tables
    assert Details(table).relative_mce(table.rows[0], "imagenet_c") is None


def test_a_printed_figure_of_another_measure_is_marked_and_no_difference_is_taken_from_it(tmp_path):
    """Table 2's column C holds 100 - accuracy in six rows, and R is over 1,000 classes in seven."""
    rows = {row.method: row for row in published_rows("imagenet", "vit_base_patch16_224")}
    six = ["randaugment", "pr", "randaugment_pr", "augmix", "augmix_pr", "sam"]
    assert [method for method, row in rows.items() if row.other("imagenet_c")] == six
    assert [method for method, row in rows.items() if row.other("imagenet_r")] == [*six, "robustvit"]
    assert [method for method, row in rows.items() if row.other("imagenet_a")] == ["robustvit"]
    assert all(row.start and row.source for row in rows.values())
    folder = tmp_path / "results"
    for suite in ("clean", "imagenet_r"):
        stored(folder, "sam", suite, source="imagenet", model="vit_base_patch16_224", right=70)
    (table,) = build(read_results(folder)[0]).tables
    found = {one.suite: one for one in beside(table)}
    assert found["clean"].difference == pytest.approx(70 - 79.9)
    assert found["imagenet_r"].difference is None
    assert found["imagenet_r"].differs[0] == (
        "measure: argmax over 1,000 classes (inferred: the released weights have 40.1 over 200 classes) there"
    )
    assert any(words.startswith("start: ViT-B/16 from scratch") for words in found["clean"].differs)
    assert json.loads(to_json(build(read_results(folder)[0])))["tables"][0]["beside_published"][1]["difference"] is None
    page = rendered(folder, tmp_path)
    (cell,) = re.findall(r'<td[^>]*><span class="v">26\.4‡', page)
    assert "data-v" not in cell  # it takes no part in sorting
    words = "argmax over 1,000 classes (inferred: the released weights have 40.1 over 200 classes)"
    assert f'title="{words}"' in cell
    for text in (page, report.to_markdown(build(read_results(folder)[0]))):
        assert f"‡ {words}: sam (imagenet_r)" in text.replace("\\_", "_")
        assert "no mCE" not in text  # of a column that is not here
    latex = to_latex(build(read_results(folder)[0]))
    assert r"\textit{26.4}\textdaggerdbl{}" in latex
    assert rf"\textdaggerdbl{{}} {words}: sam" in latex
