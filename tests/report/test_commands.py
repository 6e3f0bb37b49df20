"""The commands that cards show: they make what the row or column holds again, and nothing else."""

import click
import made

from nsbench.cli.main import run
from nsbench.report.commands import FLAGS, MOST, NO_FIGURE, commands_of

TYPED = "nsbench run --method all --suite clean,fgsm --seed 0,1,2 --results here --log-file x.jsonl -q"


def result(method="ns", suite="clean", seed=0, command=TYPED, **changes):
    group = "adversarial" if suite == "fgsm" else "clean"
    return made.result(method=method, suite=suite, seed=seed, command=command, group=group, paper=False, **changes)


def test_it_asks_for_the_rows_own_method_suites_and_seeds_alone():
    row = [result(suite=suite, seed=seed) for suite in ("fgsm", "clean") for seed in (1, 0)]
    assert commands_of(row) == ["nsbench run --method ns --suite clean,fgsm --seed 0,1"]


def test_seeds_that_another_command_made_are_in_it():
    later = "nsbench run --method finetune,ns --suite all --seed 3,4,5 --results elsewhere --workers 2 --force"
    assert commands_of([result(seed=0), result(seed=3, command=later)]) == [
        "nsbench run --method ns --suite clean --seed 0,3"
    ]


def test_what_decides_a_figure_is_kept():
    command = (
        "nsbench run --data 'my set' --set lr=5e-5 --set rounds=3 --limit 150 --allow-missing --method x --suite y"
    )
    assert commands_of([result(command=command)]) == [
        "nsbench run --method ns --suite clean --seed 0 --data 'my set' --set lr=5e-5 --set rounds=3 --limit 150 "
        "--allow-missing"
    ]


def test_options_that_differ_give_a_command_each_and_so_do_seeds():
    column = [
        result("finetune"),
        result("ns"),
        result("ns", command=f"{TYPED} --set epsilon=0.1"),
        *(result("madry", seed=seed) for seed in (0, 1)),
    ]
    assert sorted(commands_of(column)) == [
        "nsbench run --method finetune,ns --suite clean --seed 0",
        "nsbench run --method madry --suite clean --seed 0,1",
        "nsbench run --method ns --suite clean --seed 0 --set epsilon=0.1",
    ]


def test_a_study_gives_the_setting_of_the_row():
    row = result(command="nsbench run --study table4", recipe=made.recipe("shapes10", epsilon=0.1))
    assert commands_of([row]) == ["nsbench run --method ns --suite clean --seed 0 --set epsilon=0.1"]
    lost = result(command="nsbench run --study gone.toml --seed 4")
    assert commands_of([lost]) == ["nsbench run --method ns --suite clean --seed 0 --study gone.toml"]


def test_a_suite_with_other_settings_is_asked_for_by_its_own_name():
    row = result(suite="fgsm-steps-3", command="nsbench run --method ns --suite fgsm --set-attack steps=3")
    assert commands_of([row]) == ["nsbench run --method ns --suite fgsm --seed 0 --set-attack steps=3"]


def test_what_no_command_line_made_is_shown_as_it_is():
    rows = [result(command="nsbench.evaluate(mine)"), result(seed=1, command="nsbench.evaluate(mine)")]
    assert commands_of(rows) == ["nsbench.evaluate(mine)"]
    assert commands_of([result(command="")]) == []


def test_very_many_commands_are_not_all_listed():
    rows = [result(f"m{at:02d}", command=f"{TYPED} --set rounds={at}") for at in range(MOST + 3)]
    found = commands_of(rows)
    assert len(found) == MOST + 1
    assert found[-1] == "# and 3 more: each result states its own"


def test_the_options_are_those_of_the_command():
    options = [one for one in run.params if isinstance(one, click.Option)]
    names = {name for one in options for name in one.opts}
    flags = {name for one in options if one.is_flag for name in one.opts}
    assert flags == set(FLAGS)
    assert set(NO_FIGURE) <= names
