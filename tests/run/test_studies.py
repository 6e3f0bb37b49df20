"""Studies: the files parse, errors are named, the grid becomes a section of the report with the paper's rows."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import made
import pandas as pd
import pytest
from click.testing import CliRunner

from nsbench import leaderboard, registry
from nsbench.cli import main
from nsbench.errors import UnknownName, UsageError
from nsbench.registry import content_folder
from nsbench.report import to_html
from nsbench.report.studies import _reported, reported, study_view, what_holds
from nsbench.results import RecipeUsed, Result, read_results
from nsbench.run.fit import recipe_used
from nsbench.run.study import fits, known_studies, load_study
from nsbench.training import load_recipe

RESULTS = Path(__file__).parents[2] / "reports/showcase/shapes10/results"
PUBLISHED = content_folder("baselines") / "published"


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
    whole = load_recipe("quick", {"mixup": "0", "flip": "1", "attack_eps": "4/255"})
    kept = made.provenance(recipe=recipe_used(whole))
    assert fits(kept, {"mixup": 0, "flip": 1, "attack_eps": "4/255"})
    assert not fits(kept, {"mixup": 1})
    assert not fits(kept, {"attack_eps": "8/255"})


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


def test_what_holds_of_the_papers_table_is_counted_from_its_file_and_from_our_tests() -> None:
    results, _ = read_results(RESULTS)
    (table,) = leaderboard.build(results).tables
    view = study_view(load_study("table3"), table)
    assert view is not None
    sentences = dict(sentence.split(": ", 1) for sentence in what_holds(view, table))
    paper = pd.read_csv(PUBLISHED / "table3_adversarial_finetuning.csv").set_index("method").drop(columns="model")
    paper["imagenet_c_mce"] *= -1
    assert len(sentences) == 3  # madry, trades and ns; the paper has no control
    for line in view.lines:
        if line.row.label not in sentences:
            continue
        theirs = int((paper.loc[line.row.method] > paper.loc["pretrained"]).sum())
        ours = [
            one.delta.verdict
            for one in leaderboard.compare(table, line.row.label, "pretrained")
            if one.suite in view.study.suites
        ]
        told = sentences[line.row.label]
        assert told.startswith(f"the paper's is better than its checkpoint in {theirs} of 9 columns")
        better, worse = ours.count(leaderboard.BETTER), ours.count(leaderboard.WORSE)
        assert f"Here it is better than the checkpoint in {better} of 9 and worse in {worse}" in told
    assert "the paper's is better than its checkpoint in 9 of 9 columns. Here" in sentences["NS"]


def test_a_row_of_several_models_is_that_of_the_own_or_else_of_the_fullest_one() -> None:
    results, _ = read_results(RESULTS)
    ns = next(row for row in leaderboard.build(results).tables[0].rows if row.method == "ns")
    rows = reported(load_study("table2"))
    assert [one.model for one in rows if one.method == "ns"] == ["vit_small", "vit_base"]
    assert _reported(rows, ns, {}).model == "vit_base"
    assert _reported(rows, replace(ns, model="vit_small_patch16_224"), {}).model == "vit_small"


def test_the_study_of_table_2_has_every_row_of_the_paper_and_the_control() -> None:
    study = load_study("table2")
    assert set(study.methods) - {"finetune"} == {one.method for one in reported(study)}
    assert len(study.suites) == 11
