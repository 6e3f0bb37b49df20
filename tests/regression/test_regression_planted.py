"""Really run: planted bugs of the usual kinds are caught, and the unchanged code raises no alarm."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from nsbench import registry
from nsbench.cli import main
from nsbench.data.source import Subset
from nsbench.models.preprocessing import Preprocessing
from nsbench.progress import SILENT
from nsbench.regression import Baseline, BaselineCheck, Rules, Verdict, check_results, read_baseline, write_baseline
from nsbench.regression.measure import measured, record
from nsbench.run import attacked, unattacked
from nsbench.run.runner import RunOptions
from nsbench.shapes10 import EmbeddedSplit

REPOSITORY = Path(__file__).parents[2]
SUITES = ("clean", "fgsm", "imagenet_a", "imagenet_r", "damagenet")

SIX = ("pretrained", "finetune", "random_noise", "ns", "madry", "trades")  # of the committed baseline


def options(*suites: str, method: str = "pretrained", limit: int = 100, **settings) -> RunOptions:
    registry.load_content()
    return RunOptions((method,), suites or SUITES, limit=limit, **settings)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    """Recorded once, with a repeat, and read back from its file."""
    path = tmp_path_factory.mktemp("baseline") / "b.json"
    write_baseline(path, record(options(), SILENT, given={"limit": 100}))
    assert path.stat().st_size < 20_000
    return read_baseline(path)


def checked(held: Baseline, asked: RunOptions, *, strict: bool = False) -> BaselineCheck:
    pairs = [(method, suite) for method in asked.methods for suite in asked.suites]
    with measured(asked, SILENT) as run:
        return check_results(
            held, run.results, Rules(strict=strict), pairs=pairs, why_missing=run.why_missing, reference=run.reference
        )


def regressed(found: BaselineCheck) -> set[str]:
    return {c.suite for c in found.suites if c.verdict is Verdict.REGRESSED}


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_unchanged_code_raises_no_alarm(held: Baseline) -> None:
    assert held.repeats == 1
    assert held.moved["pretrained"][1] == 400, "clean and fgsm share their images"
    found = checked(held, options("clean", "imagenet_r", "damagenet", batch_size=17), strict=True)
    assert found.exit_status == 0, found
    assert [cost.what for cost in found.costs] == ["seconds", "memory"]


@pytest.mark.slow
def test_twenty_unchanged_runs_raise_no_alarm(held: Baseline, threads: Callable[[int], None]) -> None:
    for number in range(20):
        threads(1 + number % 2)
        assert checked(held, options(batch_size=(7, 16, 33, 64, 100)[number % 5]), strict=True).exit_status == 0


def test_a_wrong_normalisation(held: Baseline, tmp_path: Path) -> None:
    """Through the command, whose options are those of a run; what is not given is the baseline's."""
    write_baseline(tmp_path / "b.json", held)
    done = CliRunner().invoke(
        main,
        [
            "check",
            "--baseline",
            str(tmp_path / "b.json"),
            "--run",
            "--suite",
            "clean,damagenet",
            "--normalisation",
            "imagenet",
        ],
    )
    assert done.exit_code == 1, done.output
    assert "2 suites against the baseline" in done.output
    assert "1 regressed" in done.output
    assert "changed: normalisation imagenet instead of own" in done.output


def test_a_missing_class_mask(held: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = unattacked.judge

    def without(model, images, labels, ids, classes):
        found = judge(model, images, labels, ids, None)
        return found if classes is None else found | {"predictions_all": found["predictions"]}

    monkeypatch.setattr(unattacked, "judge", without)
    assert regressed(checked(held, options("imagenet_a", "imagenet_r", "clean"))) == {"imagenet_a", "imagenet_r"}


def stronger(monkeypatch: pytest.MonkeyPatch) -> None:
    fgsm = registry.attacks["fgsm"]

    def eight_times(model, images, labels, *, threat, **settings):
        return fgsm(model, images, labels, threat=replace(threat, eps=8 * threat.eps), **settings)

    monkeypatch.setitem(registry.attacks._items, "fgsm", replace(fgsm, function=eight_times))


def test_eps_8_instead_of_1_in_the_attack(held: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness refuses the images; the check names it and does not pass."""
    stronger(monkeypatch)
    found = checked(held, options("fgsm"))
    assert found.exit_status == 3
    assert "a change beyond linf 1/255" in found.suites[0].reason


def test_eps_8_instead_of_1_unnoticed_by_the_harness(held: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    stronger(monkeypatch)
    monkeypatch.setattr(attacked, "check_adversarial", lambda *arguments: None)
    assert regressed(checked(held, options("fgsm"))) == {"fgsm"}


def test_eps_8_instead_of_1_in_the_suite(held: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = registry.suites["fgsm"]

    def build():
        return [
            replace(c, threat=replace(c.threat, eps=8 / 255)) if c.name == "eps 1/255" else c
            for c in suite.conditions()
        ]

    monkeypatch.setitem(registry.suites._items, "fgsm", replace(suite, build=build))
    found = checked(held, options("fgsm"))
    assert found.exit_status == 3
    assert "linf 8/255 instead of linf 1/255" in found.suites[0].reason


def test_labels_that_are_shuffled_in_the_data(held: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    made = EmbeddedSplit.__init__

    def shuffled(self, *arguments) -> None:
        made(self, *arguments)
        self.labels = self.labels[np.random.default_rng(0).permutation(len(self.labels))]

    monkeypatch.setattr(EmbeddedSplit, "__init__", shuffled)
    found = checked(held, options("clean"))
    assert found.exit_status == 3, "another subset is drawn: balanced over the wrong labels"


def test_labels_that_are_shuffled_against_the_images(held: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = unattacked.judge

    def shifted(*arguments):
        return {name: np.roll(values, 1) for name, values in judge(*arguments).items()}

    monkeypatch.setattr(unattacked, "judge", shifted)
    assert regressed(checked(held, options("clean", "damagenet"))) == {"clean", "damagenet"}


def test_labels_that_are_relabelled_after_the_subset(held: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Subset.__init__

    def relabelled(self, base, indices) -> None:
        made(self, base, indices)
        self.labels = np.roll(self.labels, 1)

    monkeypatch.setattr(Subset, "__init__", relabelled)
    found = checked(held, options("clean"))
    assert found.exit_status == 3
    assert "of 100 images have another label" in found.suites[0].reason


def test_a_resize_of_images_that_are_ready(held: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 48 pixels it moves outcomes both ways: no drop, but many more flips than the same code gives."""
    transform = Preprocessing.transform
    monkeypatch.setattr(
        Preprocessing,
        "transform",
        lambda self, mode="checkpoint": transform(replace(self, crop_pct=0.875), "checkpoint"),
    )
    found = checked(held, options("damagenet"), strict=True)
    assert found.moved[0].moved
    assert found.exit_status == 1


@pytest.mark.slow
def test_half_the_finetuning_steps_and_shuffled_training_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = options(*SUITES, "stylized", "imagenet_v2", "imagenet_sketch", method="finetune", settings={"rounds": "2"})
    held = record(asked, SILENT)
    assert checked(held, replace(asked, batch_size=17), strict=True).exit_status == 0
    method = registry.methods["finetune"]

    def half(model, train, recipe, **run):
        short = recipe.model_copy(update={"steps_per_round": recipe.steps_per_round // 2})
        return method.fit(model, train, short, **run)

    monkeypatch.setitem(registry.methods._items, "finetune", replace(method, fit=half))
    found = checked(held, asked, strict=True)
    assert found.moved[0].moved
    assert found.exit_status == 1

    def shuffled(model, train, recipe, **run):
        train.labels = np.random.default_rng(0).permutation(train.labels)
        return method.fit(model, train, recipe, **run)

    monkeypatch.setitem(registry.methods._items, "finetune", replace(method, fit=shuffled))
    found = checked(held, asked, strict=True)
    assert found.moved[0].moved
    assert found.exit_status == 1


@pytest.mark.slow
def test_a_resize_of_224_pixels(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adversarial PNG of 224 x 224 on real images: resizing weakens the attack, so that the figure only looks good."""
    from PIL import Image

    from nsbench.attacks import fgsm
    from nsbench.data.wnids import label_of
    from nsbench.models import load_model
    from nsbench.types import ThreatModel

    weights = shared_data / "weights" / "vit_tiny_patch16_224.safetensors"
    model = load_model("vit_tiny_patch16_224", checkpoint=weights)
    for path in sorted((shared_data / "imagenet" / "val").glob("*/*.JPEG"))[::6][:100]:
        picture = Image.open(path).convert("RGB").crop((1, 1, 225, 225))
        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
        label = torch.tensor([label_of()[path.parent.name]])
        attacked = fgsm(model, image, label, ids=[path.name], seed=0, threat=ThreatModel("linf", 4 / 255))
        target = tmp_path / "damagenet" / path.parent.name / f"{path.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((attacked[0] * 255).round().byte().permute(1, 2, 0).numpy()).save(target)
        (tmp_path / "val" / path.parent.name).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "val" / path.parent.name / path.name)
    asked = options("damagenet", data=str(tmp_path), model="vit_tiny_patch16_224", checkpoint=weights, workers=0)
    held = record(asked, SILENT, needs=["data", "checkpoint"])
    transform = Preprocessing.transform
    monkeypatch.setattr(Preprocessing, "transform", lambda self, mode="checkpoint": transform(self, "checkpoint"))
    found = checked(held, asked, strict=True)
    assert found.moved[0].moved
    assert found.exit_status == 1


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="narrows the vector instructions of x86")
def test_another_cpu_raises_no_alarm(held: Baseline, tmp_path: Path) -> None:
    """The same code with other vector instructions in ATen, MKL and oneDNN rounds as another CPU does."""
    write_baseline(tmp_path / "b.json", held)
    narrow = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    done = subprocess.run(
        [sys.executable, "-m", "nsbench", "check", "--baseline", str(tmp_path / "b.json"), "--run", "--strict"],
        env=os.environ | narrow,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_committed_baseline_is_of_its_six_methods_and_every_suite() -> None:
    registry.load_content()
    file = REPOSITORY / "baselines" / "regression" / "shapes10.json"
    assert file.stat().st_size < 100_000
    held = read_baseline(file)
    assert {(entry.method, entry.suite) for entry in held.entries} == {
        (method, suite.name) for method in SIX for suite in registry.suites.values() if suite.paper
    }
    assert held.repeats >= 1
    page = (REPOSITORY / "docs" / "ci.md").read_text()
    command = re.search(r"^\$ nsbench baseline record .*--limit (\d+) .*shapes10\.json$", page, re.MULTILINE)
    assert command is not None
    assert held.options["limit"] == int(command[1]), "the command of docs/ci.md is the one that recorded it"
