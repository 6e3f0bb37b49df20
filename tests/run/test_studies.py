"""Studies: the files parse, errors are named, the grid becomes a section of the report with the paper's rows."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import made
import pytest
from click.testing import CliRunner

from nsbench import leaderboard, registry
from nsbench.cli import main
from nsbench.errors import UnknownName, UsageError
from nsbench.registry import content_folder
from nsbench.report import to_html
from nsbench.report.studies import reported, study_view
from nsbench.results import RecipeUsed, Result, read_results
from nsbench.run.study import fits, known_studies, load_study

RESULTS = Path(__file__).parents[2] / "reports/showcase/shapes10/results"


@pytest.mark.parametrize("name", known_studies())
def test_every_study_names_what_there_is(name: str) -> None:
    registry.load_content()
    study = load_study(name)
    assert study.name == name
    assert all(method in registry.methods for method in study.methods)
    assert all(suite in registry.suites for suite in study.suites)
    assert (content_folder("baselines") / "published" / study.published).is_file()


def test_the_grid_of_table_4() -> None:
    study = load_study("table4")
    assert study.texts() == [{"epsilon": "0.01"}, {"epsilon": "0.03"}, {"epsilon": "0.1"}]
    assert set(study.methods) == {"ns", "random_noise"}
    with (content_folder("baselines") / "published" / study.published).open() as file:
        first = next(csv.DictReader(file))
    row = reported(study)[0]
    assert row.figures["fgsm"] == float(first["fgsm"])
    assert row.figures["imagenet_c"] == float(first["imagenet_c_mce"])
    assert row.setting == {"epsilon": first["epsilon"]}


def test_wrong_studies_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown study 'table33'\. Did you mean 'table3'"):
        load_study("table33")
    with pytest.raises(UsageError, match=r"mine\.toml: cannot be read"):
        load_study(str(tmp_path / "mine.toml"))
    path = tmp_path / "mine.toml"
    for text, complaint in (
        ("title =", "is no TOML file"),
        ("title = 'x'\nmethods = []", "methods"),
        ("title = 'x'\nmethods = ['ns']\nsuites = ['clean']\nepsilon = 1", "epsilon"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=complaint):
            load_study(str(path))


def test_a_study_of_ones_own_is_planned(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "title = 'x'\nmethods = ['finetune']\nsuites = ['clean', 'fgsm']\n[[settings]]\nrounds = 1\n"
        "[[settings]]\nrounds = 2\n"
    )
    answer = CliRunner().invoke(main, ["run", "--study", str(path), "--dry-run"])
    assert answer.exit_code == 0, answer.output
    assert answer.output.count("finetune x clean") == 2
    assert "rounds = 2" in answer.output


def test_settings_fit_recipes_by_value() -> None:
    assert fits(made.provenance(recipe=made.recipe(epsilon=0.03, rounds=3)), {"epsilon": 0.03})
    assert fits(made.provenance(recipe=made.recipe(epsilon=0.1)), {"epsilon": "0.1"})
    assert not fits(made.provenance(recipe=made.recipe(epsilon=0.1)), {"epsilon": 0.01})
    assert fits(made.provenance(recipe=None), {"epsilon": 0.01})


def with_epsilon(recipe: RecipeUsed | None, epsilon: float) -> RecipeUsed:
    assert recipe is not None
    return replace(recipe, settings={**recipe.settings, "epsilon": epsilon})


def grid() -> list[Result]:
    """The committed results of NS as if they came from table 4's grid: the figures do not matter here."""
    found, _ = read_results(RESULTS)
    return [
        replace(
            one,
            method=method,
            method_title=method,
            provenance=replace(one.provenance, recipe=with_epsilon(one.provenance.recipe, epsilon)),
        )
        for one in found
        if one.method == "ns" and one.seed == 0
        for method in ("ns", "random_noise")
        for epsilon in (0.01, 0.03, 0.1)
    ]


def test_a_whole_grid_becomes_a_section_with_the_papers_rows() -> None:
    results = grid()
    board = leaderboard.build(results)
    view = study_view(load_study("table4"), board.tables[0])
    assert view is not None
    assert [(line.setting, line.row.method) for line in view.lines] == [
        (f"epsilon = {epsilon}", method) for epsilon in (0.01, 0.03, 0.1) for method in ("ns", "random_noise")
    ]
    assert [line.reported.figures["fgsm"] for line in view.lines if line.reported] == [
        26.04,
        21.54,
        25.95,
        23.18,
        25.38,
        23.93,
    ]
    html = to_html(board)
    assert "nsbench run --study table4" in html
    assert "reported, vit_small" in html


def test_half_a_grid_is_no_study() -> None:
    table = leaderboard.build([one for one in grid() if one.method == "ns"]).tables[0]
    assert study_view(load_study("table4"), table) is None
    one_setting = [r for r in grid() if r.provenance.recipe.settings["epsilon"] == 0.1]
    assert study_view(load_study("table4"), leaderboard.build(one_setting).tables[0]) is None


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 5000, "is no TOML file"),
        ('title = "t"\nmethods = [["ns"]]\nsuites = ["clean"]', "methods.0: Input should be a valid string"),
        ('title = "t"\nmethods = "ns"\nsuites = ["clean"]', "methods: "),
        ('title = "t"\nmethods = ["ns"]\nsuites = ["clean"]\nsettings = [{epsilon = [1]}]', "settings.0.epsilon"),
        ('title = "t"\nmethods = ["ns"]\nsuites = ["clean"]\nseeds = ["~nouser"]', "seeds.0"),
        ("\ufffe\x00", "is no TOML file"),
    ],
)
def test_study_files_that_are_wrong_in_other_ways(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UsageError, match=words) as raised:
        load_study(str(tmp_path / "s.toml"))
    assert "\n" not in str(raised.value)


@pytest.mark.timeout(30)
def test_a_pipe_is_no_study(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_study(str(tmp_path / "s.toml"))
