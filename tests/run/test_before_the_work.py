"""What can be known of a suite's images before the first batch is said before it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nsbench import registry
from nsbench.errors import DataError, UsageError
from nsbench.making import expected
from nsbench.models import load_model, weights_digest
from nsbench.progress import SILENT, Progress
from nsbench.run import before, runner
from nsbench.run.before import not_attackable, rehearse, require_published_labels, require_room
from nsbench.run.job import open_job
from nsbench.run.options import RunOptions
from nsbench.run.own_settings import with_settings
from nsbench.run.plan import plan


def splits(suite: str, change: str = "") -> list[SimpleNamespace]:
    """Of every condition the same four images; one condition has another name for one of them."""
    ids = np.array([f"ILSVRC2012_val_{k:08}" for k in range(4)])
    found = []
    for condition in registry.suites[suite].conditions():
        own = np.char.replace(ids, "00000002", "00000009") if condition.name == change else ids
        found.append(SimpleNamespace(ids=own, labels=np.zeros(4, dtype=np.int64)))
    return found


@pytest.fixture(autouse=True)
def _content() -> None:
    registry.load_content()


def test_a_corruption_of_other_images_is_refused_and_an_image_named() -> None:
    with pytest.raises(DataError, match=r"impulse_noise/3 has others .* such as ILSVRC2012_val_0000000[29]"):
        rehearse(registry.suites["imagenet_c"], splits("imagenet_c", "impulse_noise/3"))


@pytest.mark.parametrize("suite", ["imagenet_c", "fgsm", "clean", "cw", "patchfool"])
def test_whole_sets_are_not(suite: str) -> None:
    rehearse(registry.suites[suite], splits(suite))


class Official:
    """50,000 official names with labels."""

    def __init__(self, labels: np.ndarray) -> None:
        self.ids, self.labels = np.array([f"ILSVRC2012_val_{k:08}" for k in range(1, len(labels) + 1)]), labels


@pytest.mark.parametrize("suite", ["clean", "stylized", "damagenet"])
def test_labels_of_the_whole_validation_set_are_the_published_ones(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(50_000) % 1000
    text = "".join(f"ILSVRC2012_val_{k:08} {label}\n" for k, label in enumerate(labels, start=1))
    monkeypatch.setattr(expected, "VAL_LABELS", hashlib.sha256(text.encode()).hexdigest())
    exchanged = labels.copy()
    exchanged[[0, 1]] = exchanged[[1, 0]]

    def job(name: str, labels: np.ndarray) -> SimpleNamespace:
        split = Official(labels)
        return SimpleNamespace(source=SimpleNamespace(name=name, split=lambda *_: split), progress=None)

    require_published_labels(job("imagenet", labels), registry.suites[suite])
    with pytest.raises(DataError, match=f"'{suite}': its labels are not those of the published validation list"):
        require_published_labels(job("imagenet", exchanged), registry.suites[suite])
    require_published_labels(job("relabelled", exchanged), registry.suites[suite])
    require_published_labels(job("imagenet", exchanged[:100]), registry.suites[suite])


def test_a_disk_without_room_is_named_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = RunOptions(["finetune"], ["clean"], results=tmp_path / "not" / "there", weights=tmp_path)
    job = open_job(options, SILENT)
    require_room(job)
    weights = 4 * sum(one.numel() for one in job.parent.parameters())
    needed = weights * 6 + 1000 * 32 + 2_000_000
    monkeypatch.setattr(before.shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed))
    require_room(job)
    monkeypatch.setattr(before.shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed - 1))
    with pytest.raises(UsageError, match=r"0\.02 GB are free, and results and fitted weights .* --results"):
        require_room(job)


CONVOLUTION = """
from torch import nn


def build():
    net = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(144, 10))
    net.input_size = 48
    return net
"""


def test_a_model_that_cannot_be_attacked_is_named_before_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patch-Fool needs attention maps, which no convolution has."""
    (tmp_path / "models.py").write_text(CONVOLUTION)
    monkeypatch.setattr(runner, "fitted", lambda *_: pytest.fail("trained"))
    options = RunOptions(
        ("finetune",),
        ("patchfool", "patchfool_select"),
        model=f"{tmp_path / 'models.py'}:build",
        results=tmp_path / "results",
    )
    summary = runner.run(options, SILENT)
    assert len(summary.failed) == 2
    assert all("attention" in why for why in summary.failed.values())


@pytest.mark.parametrize("suite", ["fgsm", "cw", "cw_search", "patchfool", "patchfool_select", "pgd", "autoattack"])
def test_trying_an_attack_changes_nothing_and_takes_no_time(suite: str, tmp_path: Path) -> None:
    job = open_job(RunOptions(("pretrained",), (suite,), results=tmp_path), SILENT)
    state = torch.get_rng_state()
    began = time.perf_counter()
    assert not_attackable(job) == {}
    assert torch.equal(torch.get_rng_state(), state)
    assert job.parent_digest == weights_digest(job.parent)
    assert time.perf_counter() - began < 20


CNN = "ns,random_noise,pr,randaugment_pr,augmix_pr,robustvit,lp_ft,madry+ns"


class Lines(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str = "", style: str = "") -> None:
        self.lines.append(text)


def test_a_method_that_cannot_train_the_model_is_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A convolution has no patch tokens, no patches, no attention and no head of its own; on pixels NS can train it."""
    (tmp_path / "models.py").write_text(CONVOLUTION)
    monkeypatch.setattr(runner, "fitted", lambda *_: pytest.fail("trained"))
    told = Lines()
    model = f"{tmp_path / 'models.py'}:build"
    options = RunOptions(registry.resolve_methods(CNN), ("clean",), model=model, results=tmp_path / "results")
    before.say_what_is_needed(open_job(options, told))
    assert [line.partition(":")[0] for line in told.lines[1:]] == CNN.split(",")
    assert len(runner.run(options, SILENT).failed) == len(options.methods)
    assert {one.state for one in plan(options, measured=False).pairs} == {"cannot be run"}
    settings = {"ns.layer": "input", "random_noise.layer": "input"}
    on_pixels = replace(options, methods=("ns", "random_noise"), settings=settings)
    assert {one.state for one in plan(on_pixels, measured=False).pairs} == {"to run"}


def test_what_a_method_needs_and_does_not_find_is_said_at_once() -> None:
    """Of images without a discretiser and without masks; a setting that gives one is looked at instead."""
    said: list[str] = []
    bare, vit = SimpleNamespace(discretiser=None, masked=None), load_model("vit_shapes10")

    def look(*methods: str, **settings: str) -> list[str]:
        said.clear()
        options = SimpleNamespace(
            methods=methods, settings={name.replace("_", "."): one for name, one in settings.items()}
        )
        source = SimpleNamespace(split=lambda name, progress: bare)
        progress = SimpleNamespace(line=lambda text, style="": said.append(text))
        job = SimpleNamespace(options=options, source=source, progress=progress, parent=vit, recipe=None)
        job.method = lambda name: with_settings(registry.methods[name], options.settings)
        before.say_what_is_needed(job)
        return list(said)

    assert look("finetune", "robustvit", "ns") == []
    assert look("finetune", "dat", dat_discretiser="shapes10") == []
    (line,) = look("finetune", "dat")
    assert line.startswith("dat: these images come with no discretiser; give the setting discretiser=")
    (line,) = look("robustvit+ns", robustvit_masks="source")
    assert line.startswith("robustvit+ns: these training images have no masks")


def test_a_surrogate_that_nothing_is_attacked_on_is_refused(tmp_path: Path) -> None:
    named = RunOptions(["pretrained"], ["clean", "fgsm"], surrogate="vit_shapes10", results=tmp_path / "results")
    with pytest.raises(UsageError, match="no images of clean,fgsm are attacked on it"):
        runner.ready(named, SILENT)
    with pytest.raises(UsageError, match="no images of clean,fgsm are attacked on it"):
        plan(named, measured=False)
    runner.ready(replace(named, suites=["clean", "transfer"]), SILENT)


@pytest.mark.parametrize("surrogate", ["vit_nope", "vit_shapes10:nofile.pth"])
def test_a_surrogate_that_is_not_there_is_said_before_a_training(surrogate: str, tmp_path: Path) -> None:
    job = open_job(RunOptions(["finetune"], ["clean", "transfer"], surrogate=surrogate), SILENT)
    (error,) = not_attackable(job).values()
    assert surrogate.removeprefix("vit_shapes10:") in str(error)


def test_nothing_is_trained_to_measure_compute_that_no_method_needs(tmp_path: Path) -> None:
    equal = RunOptions(
        ["pretrained"], ["clean"], match="compute", limit=2, results=tmp_path, weights=tmp_path / "weights"
    )
    assert plan(equal, measured=False).fits == {}
    assert runner.run(equal, SILENT).complete
    assert not (tmp_path / "weights").exists()
    assert len(plan(replace(equal, methods=["pretrained", "finetune"]), measured=False).fits) == 2
