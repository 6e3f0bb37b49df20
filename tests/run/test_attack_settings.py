"""Settings of attacks: typed, declared, another measurement and a column of its own that says so."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from test_include import nsbench

from nsbench import registry
from nsbench.errors import UnknownName, UsageError
from nsbench.leaderboard import build
from nsbench.registry.registries import Registry
from nsbench.results import read_results
from nsbench.run.attack_settings import is_made_again, with_attack_settings
from nsbench.run.sound import check_condition
from nsbench.types import Attack, Condition, ThreatModel


@pytest.fixture(autouse=True)
def content(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.load_content()
    kept: Registry = Registry("suite")
    for suite in registry.suites.values():
        kept.add(suite.name, suite)
    monkeypatch.setattr(registry.suites, "_items", kept._items)


def test_a_changed_suite_is_another_one() -> None:
    names = with_attack_settings(("clean", "fgsm"), {"eot": "16"})
    assert names == ("clean", "fgsm-eot-16")
    plain, changed = registry.suites["fgsm"], registry.suites["fgsm-eot-16"]
    assert changed.title == "FGSM (eot 16)"
    assert changed.summary.endswith("Not the suite's own settings: the attack runs with eot 16.")
    assert (changed.paper, changed.watched, changed.order) == (False, False, plain.order)
    assert [one.params for one in changed.conditions()] == [{"eot": 16}] * len(plain.conditions())
    assert [one.params for one in plain.conditions()] == [{}] * len(plain.conditions())
    assert with_attack_settings(("clean", "fgsm"), {"eot": "16"}) == names  # and once more


def test_what_a_suite_has_anyway_is_no_change() -> None:
    assert with_attack_settings(("fgsm", "pgd"), {"eot": "1"}) == ("fgsm", "pgd")
    assert with_attack_settings(("pgd",), {"steps": "10"}) == ("pgd",)
    assert with_attack_settings(("clean",), {}) == ("clean",)


def test_a_condition_that_varies_the_setting_keeps_its_own() -> None:
    (name,) = with_attack_settings(("pgd",), {"steps": "20", "step_size": "0.5"})
    assert name == "pgd-steps-20-step_size-0.5"
    params = {one.name: one.params for one in registry.suites[name].conditions()}
    assert params["eps 4/255"] == {"steps": 20, "step_size": 0.5}
    assert params["eps 4/255, 50 steps"] == {"steps": 50, "step_size": 0.5}
    assert params["eps 4/255, 5 restarts"] == {"steps": 20, "restarts": 5, "step_size": 0.5}


@pytest.mark.parametrize(
    ("suites", "settings", "error", "words"),
    [
        (
            ("pgd",),
            {"eat": "3"},
            UnknownName,
            "unknown setting of pgd 'eat'. Did you mean 'eot'? Known: early_stop, eot",
        ),
        (("pgd", "fgsm"), {"restarts": "3"}, UnknownName, "unknown setting of fgsm 'restarts'"),
        (("pgd",), {"batch_size": "3"}, UnknownName, "unknown setting of pgd 'batch_size'"),
        (("pgd",), {"ids": "3"}, UnknownName, "unknown setting of pgd 'ids'"),
        (("pgd",), {"eot": "many"}, UsageError, "--set-attack eot=many: Input should be a valid integer"),
        (("clean",), {"eot": "3"}, UsageError, "--set-attack eot=3: nothing is attacked in clean"),
    ],
)
def test_what_cannot_be_set_is_said(suites: tuple, settings: dict, error: type, words: str) -> None:
    with pytest.raises(error) as raised:
        with_attack_settings(suites, settings)
    assert words in str(raised.value)


def test_the_command_line_keeps_both_columns(tmp_path: Path) -> None:
    run = ("run", "--method", "pretrained", "--suite", "fgsm", "--limit", "8", "--results", "r")
    for more in ((), ("--set-attack", "eot=2"), ("--set-attack", "eot=2")):
        done = nsbench(tmp_path, *run, *more)
        assert done.returncode == 0, done.stderr
    assert "1 held already" in done.stdout + done.stderr
    results, problems = read_results(tmp_path / "r")
    assert not problems
    plain, changed = sorted(results, key=lambda one: one.suite)
    assert (plain.suite, changed.suite) == ("fgsm", "fgsm-eot-2")
    assert plain.identity != changed.identity
    assert plain.score == changed.score  # the model draws nothing
    assert changed.conditions[0].params == {"eot": 2}
    card, twice = (one.conditions[0].attack_card for one in (plain, changed))
    assert card is not None
    assert twice is not None
    assert twice.forwards == 2 * card.forwards
    (table,) = build(results).tables
    assert [column.title for column in table.columns] == ["FGSM", "FGSM (eot 2)"]
    packed = nsbench(tmp_path, "submit", "pack", "--results", "r", "--out", "mine.zip")
    assert packed.returncode == 0, packed.stderr
    checked = nsbench(tmp_path, "submit", "check", "mine.zip")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 results" in checked.stdout
    wrong = nsbench(tmp_path, *run, "--set-attack", "eot")
    assert wrong.returncode == 2
    assert "--set-attack eot: write NAME=VALUE, such as --set-attack eot=16" in wrong.stderr


def test_a_suite_is_made_again_from_what_its_conditions_state(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in ({"eot": "4"}, {"restarts": "3", "step_size": "0.002"}):
        (name,) = with_attack_settings(("pgd",), settings)
        made, own = registry.suites[name], registry.suites["pgd"]
        stated = [one.params for one in made.conditions()]
        with monkeypatch.context() as alone:
            alone.delitem(registry.suites._items, name)
            assert is_made_again(name, stated)
            assert registry.suites[name].title == made.title
            assert [one.params for one in registry.suites[name].conditions()] == stated
        for other, params in (
            (name, [one.params for one in own.conditions()]),
            (f"{name}0", stated),
            ("pgd-eat-4", [{"eat": 4}]),
            ("unheard-eot-4", stated),
        ):
            with monkeypatch.context() as alone:
                alone.delitem(registry.suites._items, name, raising=False)
                assert not is_made_again(other, params), other


def test_python_takes_them_too(tmp_path: Path) -> None:
    import nsbench as nb

    (found,) = nb.evaluate(
        suites="fgsm", attack_settings={"eot": 2}, limit=4, results=tmp_path, progress=False, device="cpu"
    )
    assert found.title == "FGSM (eot 2)"
    with pytest.raises(UsageError, match="--set-attack eot=2: nothing is attacked in no suite"):
        nb.fit("pretrained", attack_settings={"eot": 2})


@pytest.mark.parametrize(
    ("suite", "setting", "why"),
    [
        ("pgd", "steps=-1", "Input should be greater than 0"),
        ("pgd", "steps=0", "Input should be greater than 0"),
        ("pgd", "restarts=0", "Input should be greater than 0"),
        ("pgd", "step_size=-0.01", "Input should be greater than 0"),
        ("pgd", "step_size=0", "Input should be greater than 0"),
        ("pgd", "step_size=1e400", "is no finite number"),
        ("pgd", "step_size=nan", "Input should be greater than 0"),
        ("pgd", "steps=99999999999999999999", "is larger than any count"),
        ("cw", "steps=-5", "Input should be greater than 0"),
        ("cw", "c=0", "Input should be greater than 0"),
        ("cw", "kappa=-1", "Input should be greater than or equal to 0"),
        ("cw", "kappa=1e400", "is no finite number"),
        ("patchfool", "steps=0", "Input should be greater than 0"),
        ("patchfool", "lr=0", "Input should be greater than 0"),
        ("patchfool", "decay_every=0", "Input should be greater than 0"),
        ("stadv", "lr=0", "Input should be greater than 0"),
    ],
)
def test_a_number_with_which_an_attack_does_nothing_is_refused(suite: str, setting: str, why: str) -> None:
    name, _, value = setting.partition("=")
    registry.load_content()
    with pytest.raises(UsageError, match=f"^--set-attack {setting}: {why}"):
        with_attack_settings((suite,), {name: value})


@pytest.mark.parametrize(
    ("params", "why"),
    [({"steps": 0}, "steps=0: Input should be greater than 0"), ({"step_size": -0.1}, "step_size=-0.1"), ({}, "")],
)
def test_a_condition_is_held_to_what_its_attack_states(params: dict[str, float], why: str) -> None:
    condition = Condition("mine", attack="pgd", threat=ThreatModel("linf", 4 / 255), params=params)
    with pytest.raises(UsageError, match=f"condition 'mine' of pgd: {why}") if why else nullcontext():
        check_condition(condition)


def test_an_attack_of_ones_own_that_states_nothing_takes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(model, images, labels, *, ids, seed, threat, often=3, kind: str = "a"):  # type: ignore[no-untyped-def]
        return images

    monkeypatch.setitem(registry.attacks._items, "mine", Attack("mine", mine))
    for params, refused in (
        ({"often": 0.5}, False),
        ({"often": None}, False),
        ({"kind": "b"}, False),
        ({"kind": 3}, True),
    ):
        condition = Condition("c", attack="mine", threat=ThreatModel("linf", 0.1), params=params)
        with pytest.raises(UsageError, match="kind=3") if refused else nullcontext():
            check_condition(condition)
