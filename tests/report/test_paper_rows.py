"""The paper's rows below ours: a difference only where both are of the same model and of all images."""

from pathlib import Path

import made
import pytest
from click.testing import CliRunner
from hostile_results import attacked

from nsbench import report
from nsbench.cli import main
from nsbench.leaderboard import build
from nsbench.report.studies import study_views
from nsbench.run.study import Study, load_study
from nsbench.types import Score

STUDY = load_study("table3")
PATTERN = "so only the pattern can be compared"


def board(source="imagenet", model="vit_small_patch16_224", n=50_000):
    results = [
        made.result(
            source=source,
            model=model,
            method=method,
            suite=suite,
            score=Score(50.0, 49.0, 51.0, n),
            conditions=(made.condition(suite, n=n),),
            recipe=None if method == "pretrained" else made.recipe(),
            method_role="untouched" if method == "pretrained" else "",
            identity=f"{method}{suite}",
        )
        for method in STUDY.methods
        for suite in ("clean", "fgsm")
    ]
    return build(results)


def section(made_board):
    text = report.to_html(made_board)
    start = text.index('<h3 id="t0-study-table3">')
    return text[start : text.index("<h3 ", start + 10)]


def test_the_same_model_on_all_images_has_differences():
    text = section(board())
    assert text.count('<th scope="row">difference</th>') == len(STUDY.methods) - 1  # it has no control
    assert PATTERN not in text
    assert ", on ImageNet. Its baselines were trained" in text


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"n": 650}, "images"),
        ({"model": "vit_tiny_patch16_224"}, "models"),
        ({"source": "shapes10", "model": "vit_shapes10"}, "images and models"),
    ],
)
def test_another_model_or_fewer_images_have_the_pattern_alone(changes, what):
    text = section(board(**changes))
    assert '<th scope="row">difference</th>' not in text
    assert f"on ImageNet. It has not the {what} of this table, {PATTERN}. Its baselines were trained" in text


def test_it_is_said_of_every_line():
    (view,) = study_views(board(n=650).tables[0])
    assert view.not_theirs == "images"
    assert all(line.difference(column) is None for line in view.lines for column in view.columns)


OWN = Study(name="steps", title="How many <steps>?", methods=("pretrained", "ns"), suites=("clean",))


def test_a_study_of_ones_own_has_a_section_where_it_is_named() -> None:
    whole = board()
    assert "t0-study-steps" not in report.to_html(whole)
    text = report.to_html(whole, studies=[OWN])
    start = text.index('<h3 id="t0-study-steps">How many &lt;steps&gt;?</h3>')
    mine = text[start : text.index("</table>", start)]
    assert "nsbench run --study steps.toml" in mine
    assert mine.count('<th scope="row">') == 2
    assert "FGSM" not in mine  # which is none of its suites


def test_a_study_that_no_table_holds_is_said(tmp_path: Path) -> None:
    (tmp_path / "steps.toml").write_text('title = "?"\nmethods = ["pretrained", "trades"]\nsuites = ["clean"]\n')
    made.stored(tmp_path / "results", attacked())
    work = [
        "report",
        "--results",
        str(tmp_path / "results"),
        "--out",
        str(tmp_path),
        "--study",
        f"{tmp_path}/steps.toml",
    ]
    done = CliRunner().invoke(main, work)
    assert done.exit_code == 0
    assert (
        "steps.toml: no table has every method of it, so the page does not show it; run it: nsbench run" in done.output
    )
    assert CliRunner().invoke(main, [*work, "--format", "csv"]).exit_code == 2
    assert CliRunner().invoke(main, [*work, "--site", str(tmp_path / "site")]).exit_code == 2


def test_rows_of_one_method_in_one_setting_have_names_of_their_own_above_one_row_of_the_paper() -> None:
    """A table holds them under two recipes: what a study does not set may differ."""
    rows = [
        made.result(
            method=method,
            suite="fgsm",
            source="shapes10",
            recipe=made.recipe(epsilon=epsilon, rounds=rounds),
            identity=f"{method}{rounds}{epsilon}",
        )
        for method, rounds in (("ns", 8), ("ns", 16), ("random_noise", 8))
        for epsilon in (0.03, 0.1)
    ]
    (table,) = build(rows).tables
    (view,) = [one for one in study_views(table) if one.study.name == "table4"]
    names = [line.name for line in view.lines if line.setting == "epsilon = 0.03"]
    assert names[:2] == ["ns · epsilon 0.03 · rounds 16", "ns · epsilon 0.03 · rounds 8"]
    assert names[2:] == ["random_noise"]
    text = report.to_html(build(rows))
    section = text[text.index("t0-study-table4") :]
    assert section[: section.index("</table>")].count("<em>reported") == 4  # two methods in two settings
