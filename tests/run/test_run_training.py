"""What `nsbench run` can be told about training: settings, seeds, chains, equal compute, watching, logging."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from nsbench.cli import main
from nsbench.files import cache_folder
from nsbench.results import Provenance, read_results

SMALL = [
    f"--set={setting}"
    for setting in (
        "rounds=2",
        "steps_per_round=2",
        "batch_size=8",
        "noise_batch=8",
        "noise_batches=2",
        "noise_held_out=8",
        "noise_max_steps=3",
        "attack_steps=2",
    )
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitted weights of these tests are nobody else's; the drawn data are everybody's."""
    rendered = cache_folder() / "shapes10"
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path / "cache"))
    if rendered.is_dir():
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "shapes10").symlink_to(rendered)


def run(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["run", "--suite", "clean", "--limit", "10", "--results", str(tmp_path / "r"), *SMALL, *arguments]
    )


def provenance(tmp_path: Path) -> dict[tuple[str, int], Provenance]:
    found, problems = read_results(tmp_path / "r")
    assert not problems
    return {(one.method, one.seed): one.provenance for one in found}


def test_every_method_and_a_chain_with_several_seeds(tmp_path: Path) -> None:
    answer = run(tmp_path, "--method", "pretrained,random_noise,finetune+ns", "--seed", "0,3")
    assert answer.exit_code == 0, answer.output
    found = provenance(tmp_path)
    assert set(found) == {(m, s) for m in ("pretrained", "random_noise", "finetune+ns") for s in (0, 3)}
    assert {own.recipe.seed for (m, s), own in found.items() if s == 3 and m != "pretrained"} == {3}
    assert found["random_noise", 0].weights_digest != found["random_noise", 3].weights_digest
    assert [stage.method for stage in found["finetune+ns", 0].lineage] == ["finetune", "ns"]
    assert found["finetune+ns", 0].forward_equivalents > 3 * 8 * 4 * 3
    assert "6 done" in answer.output
    assert "(seed 3)" in answer.output
    assert "6 held" in run(tmp_path, "--method", "pretrained,random_noise,finetune+ns", "--seed", "0,3").output


def test_equal_compute(tmp_path: Path) -> None:
    answer = run(tmp_path, "--method", "finetune,ns,madry", "--match", "compute", "--seed", "3,0")
    assert answer.exit_code == 0, answer.output
    assert "as ns costs with seed 3" in answer.output
    found = provenance(tmp_path)
    budget = {own.recipe.settings["compute"] for own in found.values()}
    assert len(budget) == 1, "rows of several seeds have one recipe"
    for own in found.values():
        last = own.history[-1].forward_equivalents
        assert budget.copy().pop() <= own.forward_equivalents < budget.copy().pop() + last
    again = run(tmp_path, "--method", "ns,finetune+madry,ns+wise_ft", "--match", "compute", "--seed", "3")
    assert again.exit_code == 0, again.output
    chains = provenance(tmp_path)
    for name, parts in (("finetune+madry", 2), ("ns+wise_ft", 1)):
        own = chains[name, 3]
        stages = {one.stage: one.forward_equivalents for one in reversed(own.history)}
        assert len(stages) == parts
        assert own.recipe.settings["compute"] == budget.copy().pop()
        assert budget.copy().pop() <= own.forward_equivalents < budget.copy().pop() + parts * max(stages.values())
    assert found["finetune", 0].history[-1].step > found["madry", 0].history[-1].step


def test_dynamics_lie_beside_the_weights_and_hold_what_was_watched(tmp_path: Path) -> None:
    answer = run(tmp_path, "--method", "ns", "--watch", "2", "--log", "tensorboard")
    assert answer.exit_code == 0, answer.output
    table = pd.read_csv(next((tmp_path / "cache" / "fitted").glob("*.dynamics.csv")))
    assert list(table["round"]) == [1, 2]
    assert {
        "noise_norm",
        "noise_steps",
        "mse_probability",
        "mse_probability_held_out",
        "loss_clean",
        "loss_noisy",
        "lr",
        "seconds",
    } <= set(table.columns)
    assert table["accuracy_clean"].isna().tolist() == [True, False]
    assert all(0 <= table[f"accuracy_{suite}"][1] <= 100 for suite in ("clean", "fgsm", "imagenet_r"))
    card = json.loads(next((tmp_path / "cache" / "fitted").glob("*.json")).read_text())["card"]
    assert {"method", "recipe", "parent_digest", "data_digest", "versions", "forward_equivalents"} <= set(card)
    assert not list((tmp_path / "cache" / "fitted").glob("*.training"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "r" / "logs" / "ns.seed0")).Reload()
    norms = [event.value for event in events.Scalars("noise_norm")]
    assert norms == pytest.approx(list(table["noise_norm"]), rel=1e-5)
    assert [event.step for event in events.Scalars("loss_clean")] == [2, 4]


def test_other_suites_can_be_watched(tmp_path: Path) -> None:
    suites = "damagenet,imagenet_c"
    answer = run(tmp_path, "--method", "finetune", "--watch", "2", "--watch-suites", suites, "--set", "rounds=2")
    assert answer.exit_code == 0, answer.output
    (own,) = provenance(tmp_path).values()
    assert [set(entry.accuracies) for entry in own.history] == [set(), set(suites.split(","))]
    refused = run(tmp_path, "--method", "finetune", "--watch-suites", "clean")
    assert (refused.exit_code, "say how often with --watch K" in refused.output) == (2, True)


def test_watching_moves_no_weight(tmp_path: Path) -> None:
    assert run(tmp_path, "--method", "finetune", "--watch", "1").exit_code == 0
    assert run(tmp_path, "--method", "finetune", "--force").exit_code == 0
    cards = [json.loads(path.read_text())["card"] for path in (tmp_path / "cache" / "fitted").glob("*.json")]
    digest = {own.weights_digest for own in provenance(tmp_path).values()}
    assert digest == {card["weights_digest"] for card in cards}


def test_a_logger_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    answer = run(tmp_path, "--method", "finetune", "--log", "wandb")
    assert answer.exit_code == 2
    assert "--log wandb: the package is not installed (import of wandb halted" in answer.output
    assert "pip install wandb" in answer.output
    assert "fitted in" not in answer.output


class Wandb(ModuleType):
    """As much of Weights & Biases as we use: it wants a key, and then keeps what it is told."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("wandb")
        self.key, self.told, self.finished = False, list[tuple[int, dict[str, Any]]](), 0

    def init(self, **settings: Any) -> Wandb:
        if not self.key:
            raise self.Error("No API key configured. Use `wandb login` to log in.")
        assert set(settings) == {"project", "name", "dir", "config"}
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.told.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_weights_and_biases_hears_of_each_round_and_a_missing_key_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    answer = run(tmp_path, "--method", "finetune", "--log", "wandb")
    assert answer.exit_code == 1
    assert "--log wandb: No API key configured. Use `wandb login` to log in. Or log to" in answer.output
    wandb.key = True
    answer = run(tmp_path, "--method", "finetune", "--log", "wandb")
    assert answer.exit_code == 0, answer.output
    assert "goes on after round 1" in answer.output
    assert [step for step, _ in wandb.told] == [4]
    assert {"loss_clean", "lr", "round"} <= set(wandb.told[0][1])
    assert wandb.finished == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--set", "round=3"], "unknown recipe field 'round'. Did you mean 'rounds'"),
        (["--set", "rounds"], "--set rounds: write FIELD=VALUE"),
        (["--set", "rounds=0"], "rounds=0: Input should be greater than or equal to 1"),
        (["--set", "seed=3"], "give it with --seed"),
        (["--set", "attack_eps=0.1/255"], "attack_step_size 0.001961 is above attack_eps 0.0003922"),
        (["--seed", "a"], "--seed a: give whole numbers"),
        (["--seed", "-1"], "--seed -1: give whole numbers"),
        (["--method", "ns+nothing"], "unknown method 'ns+nothing'"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    answer = run(tmp_path, "--method", "finetune", *arguments)
    assert answer.exit_code == 2
    assert complaint in answer.output
    assert "Traceback" not in answer.output
