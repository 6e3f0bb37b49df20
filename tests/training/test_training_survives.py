"""Training that survives: interruption, a kill, a full disk, too little memory, a loss that is no number."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from training_reference import Pictures, Stop, assert_same_weights, recipe, tiny_model

import nsbench as nb
from nsbench.errors import TrainingError
from nsbench.models import Model, weights_digest
from nsbench.progress import Progress
from nsbench.results import Round
from nsbench.training import finetune
from nsbench.training.calls import numbered, remove_checkpoints
from nsbench.training.state import FORMAT, State

EVERYTHING: dict[str, Any] = {
    "rounds": 4,
    "steps_per_round": 2,
    "flip": 0.5,
    "crop_scale": (0.3, 1.0),
    "mixup": 0.8,
    "random_erasing": 0.5,
    "drop_path": 0.3,
    "ema": 0.9,
    "noise_batches": 2,
    "randaugment": "rand-m9-mstd0.5-inc1",
}


def learning(model: Model, images: Any, round: int) -> Any:
    return nb.learn_noise(model, images.batches, max_steps=3, epsilon=1e-6, seed=9, round=round, start=images.start)


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize(("budget", "start"), [(0, "uniform"), (300, "uniform"), (0, "last")])
def test_going_on_ends_where_an_uninterrupted_run_does(tmp_path: Path, after: int, budget: int, start: str) -> None:
    r = recipe(**EVERYTHING, compute=budget, noise_start=start)
    whole = finetune(tiny_model(), Pictures(), r, perturb=learning)
    path = tmp_path / "training"

    def stop(model: Model, entry: Round) -> dict[str, float]:
        if entry.round == after + 1:  # the round is done, and not yet on disk
            raise Stop
        return {}

    with pytest.raises(Stop):
        finetune(tiny_model(), Pictures(), r, perturb=learning, checkpoint=path, on_round=stop)
    calls: list[int] = []

    def note(model: Model, entry: Round) -> dict[str, float]:
        calls.append(entry.round)
        return {}

    rest = finetune(
        tiny_model(),
        Pictures(),
        r,
        perturb=learning,
        checkpoint=path,
        on_round=note,
    )
    assert calls[0] == after + 1
    assert weights_digest(rest.model) == weights_digest(whole.model)
    timeless = [replace(entry, seconds=0.0, noise_seconds=0.0) for entry in rest.history]
    assert timeless == [replace(entry, seconds=0.0, noise_seconds=0.0) for entry in whole.history]


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from test_training_survives import EVERYTHING, learning
from training_reference import Pictures, recipe, tiny_model
from nsbench.models import weights_digest
from nsbench.training import finetune
r = recipe(**(EVERYTHING | {"rounds": 60}))
print(weights_digest(finetune(tiny_model(), Pictures(), r, perturb=learning, checkpoint=Path(sys.argv[1])).model))
"""


def test_a_kill_loses_at_most_a_round(tmp_path: Path) -> None:
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here, here.parent / "support")))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}

    def start(checkpoint: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(checkpoint)],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    whole = start(tmp_path / "whole")
    killed = start(tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.15)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = torch.load(tmp_path / "killed", weights_only=True)["round"]
    assert 1 <= done < 60
    again, _ = start(tmp_path / "killed").communicate(timeout=120)
    expected, _ = whole.communicate(timeout=120)
    assert again.strip() == expected.strip() != ""


class Lines(Progress):
    """What was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def line(self, text: str = "", style: str = "") -> None:
        self.said.append(text)


def kept(path: Path, **changes: object) -> bytes:
    """The file of a training of two rounds that was interrupted after the first."""

    def stop(model: Model, entry: Round) -> dict[str, float]:
        if entry.round == 2:
            raise Stop
        return {}

    with pytest.raises(Stop):
        finetune(tiny_model(), Pictures(), recipe(rounds=2, **changes), checkpoint=path, on_round=stop)
    return path.read_bytes()


def test_a_checkpoint_of_another_recipe_or_version_is_not_taken_and_named(tmp_path: Path) -> None:
    path = tmp_path / "training"
    State.fresh(tiny_model(), recipe()).save(path)
    assert State.fresh(tiny_model(), recipe()).load(path) == ""
    assert "is of another version or recipe" in State.fresh(tiny_model(), recipe(lr=2e-3)).load(path)
    assert "is of a training of other weights" in State.fresh(tiny_model(), recipe(), "others").load(path)
    torch.save(torch.load(path, weights_only=True) | {"format": FORMAT - 1}, path)
    assert "is of another version or recipe" in State.fresh(tiny_model(), recipe()).load(path)


def plain(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
    return {"clean": criterion(model(images), targets)}


def brighter(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
    return {"bright": criterion(model((images + 0.5).clamp(0, 1)), targets)}


def two_trainings(checkpoint: Path | None, stop: Any = None) -> list[Any]:
    """The second from the model of the first, both with the file that the runner gives, as in `**run`."""
    with numbered():
        first = finetune(tiny_model(), Pictures(), recipe(rounds=2), losses=plain, checkpoint=checkpoint)
        return [
            first,
            finetune(first.model, Pictures(), recipe(rounds=2), losses=brighter, checkpoint=checkpoint, on_round=stop),
        ]


def test_each_of_two_trainings_of_a_method_has_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "key.training"
    whole = two_trainings(None)
    digests = [weights_digest(one.model) for one in whole]
    assert digests[0] != digests[1]
    assert [weights_digest(one.model) for one in two_trainings(path)] == digests

    def stop(model: Model, entry: Round) -> dict[str, float]:
        if entry.round == 2:
            raise Stop
        return {}

    remove_checkpoints(path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(Stop):
        two_trainings(path, stop)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["key.2.training", "key.training"]
    again = two_trainings(path)
    assert [weights_digest(one.model) for one in again] == digests
    assert list(again[1].history[-1].losses) == ["bright"]


def test_a_training_of_other_weights_or_another_loss_does_not_go_on_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "training"
    finetune(tiny_model(), Pictures(), recipe(), losses=plain, checkpoint=path)
    for model, losses in ((finetune(tiny_model(), Pictures(), recipe()).model, plain), (tiny_model(), brighter)):
        wanted = weights_digest(finetune(model, Pictures(), recipe(), losses=losses).model)
        lines = Lines()
        found = finetune(model, Pictures(), recipe(), losses=losses, checkpoint=path, progress=lines)
        assert weights_digest(found.model) == wanted
        assert "is of a training of other weights or another loss" in lines.said[0]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


def test_a_flipped_bit_in_a_weight_or_moment_is_noticed_and_the_training_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "training"
    content, whole = kept(path, ema=0.9), finetune(tiny_model(), Pictures(), recipe(rounds=2, ema=0.9))
    record = torch.load(path, weights_only=True)
    first = next(iter(record["optimiser"]["state"].values()))
    for tensor in (record["model"]["norm.weight"], record["ema"]["norm.weight"], first["exp_avg"]):
        at = content.index(tensor.numpy().tobytes())
        path.write_bytes(flipped(content, at + 2))
        lines = Lines()
        again = finetune(tiny_model(), Pictures(), recipe(rounds=2, ema=0.9), checkpoint=path, progress=lines)
        assert lines.said == [
            f"{path}: is no checkpoint that training can go on from (its content differs from its digest); "
            "the training starts anew"
        ]
        assert weights_digest(again.model) == weights_digest(whole.model)


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_checkpoint_gives_the_same_weights_and_a_line(tmp_path: Path, seed: int) -> None:
    path, draws = tmp_path / "training", np.random.default_rng(seed)
    content = kept(path)
    if seed % 3 == 0:
        damaged = content[: draws.integers(len(content))]
    else:
        damaged = flipped(content, int(draws.integers(len(content))))
    path.write_bytes(damaged)
    begins, lines = torch.load(io.BytesIO(content), weights_only=True)["begins"], Lines()
    state = State.fresh(tiny_model(), recipe(rounds=2), begins)
    if state.load(path) == "":  # in bytes that nothing reads, such as a name's padding
        path.write_bytes(content)
        whole = State.fresh(tiny_model(), recipe(rounds=2), begins)
        assert whole.load(path) == ""
        assert weights_digest(state.model) == weights_digest(whole.model)
        return
    finetune(tiny_model(), Pictures(), recipe(rounds=2), checkpoint=path, progress=lines)
    (line,) = lines.said
    assert "\n" not in line
    assert "the training starts anew" in line


def test_weights_of_a_broken_checkpoint_are_never_begun_with(tmp_path: Path) -> None:
    """Its digest is right, and it breaks when half of it is taken."""
    path, state = tmp_path / "training", State.fresh(tiny_model(), recipe())
    with torch.no_grad():
        state.model.vit.norm.weight.fill_(7)
    state.optimiser.param_groups.pop()
    state.save(path)
    lines = Lines()
    made = finetune(tiny_model(), Pictures(), recipe(), checkpoint=path, progress=lines)
    assert "the training starts anew" in lines.said[0]
    assert weights_digest(made.model) == weights_digest(finetune(tiny_model(), Pictures(), recipe()).model)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    path, proof = tmp_path / "training", tmp_path / "proof"

    class Hostile:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {proof}",)

    torch.save({"format": FORMAT, "recipe": Hostile()}, path)
    assert "is no checkpoint" in State.fresh(tiny_model(), recipe()).load(path)
    assert not proof.exists()


@pytest.mark.timeout(20)
def test_a_pipe_in_place_of_a_checkpoint_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "training")
    assert "is no regular file" in State.fresh(tiny_model(), recipe()).load(tmp_path / "training")


def test_a_full_disk_is_named_and_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = tmp_path / "training", State.fresh(tiny_model(), recipe())
    state.save(path)
    before = path.read_bytes()

    def full(record: object, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"No space left on device\); free some space or point NSBENCH_CACHE"):
        state.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["training"]


def test_divergence_names_the_round_and_what_is_kept(tmp_path: Path) -> None:
    def losses(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        loss = criterion(model(images), targets)
        count.append(1)
        return {"clean": loss * float("nan") if len(count) > 5 else loss}

    count: list[int] = []
    path = tmp_path / "training"
    with pytest.raises(
        TrainingError,
        match=rf"round 2, step 3 of 3; lower the recipe's lr \(0.01\): "
        rf"--set lr=0.001; the weights after round 1 are in {path}",
    ):
        finetune(tiny_model(), Pictures(), recipe(rounds=3), losses=losses, checkpoint=path)
    assert torch.load(path, weights_only=True)["round"] == 1


# Memory


def too_little(device: str) -> None:
    if device == "cuda":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if device == "cpu":
        torch.empty(1 << 50)
    np.zeros(1 << 50)


def short_of_memory(most: int, device: str = "cuda") -> Any:
    def losses(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        if len(images) > most:
            too_little(device)
        return {"clean": criterion(model(images), targets)}

    return losses


def test_a_smaller_micro_batch_gives_the_same_weights() -> None:
    whole = finetune(tiny_model(), Pictures(), recipe())
    accumulated = finetune(tiny_model(), Pictures(), recipe(micro_batch=3))
    assert_same_weights(accumulated, whole.model.timm_state_dict(), 2e-6)
    assert accumulated.history[0].losses["clean"] == pytest.approx(whole.history[0].losses["clean"], abs=1e-6)
    assert accumulated.history[0].micro_batch == 3


def test_images_with_their_channels_last_give_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    r = recipe(mixup=0.8, random_erasing=1.0, micro_batch=3)
    expected = finetune(tiny_model().double(), Pictures(), r).model.timm_state_dict()
    turned: list[torch.Size] = []

    def channels_last(images: torch.Tensor, recipe: Any) -> torch.Tensor:
        turned.append(images.shape)
        return images.contiguous(memory_format=torch.channels_last)

    monkeypatch.setattr("nsbench.training.views.laid_out", channels_last)
    assert_same_weights(finetune(tiny_model().double(), Pictures(), r), expected, 1e-9)
    assert len(turned) == r.steps


@pytest.mark.parametrize(
    ("device", "words"), [("cuda", "CUDA out of memory"), ("cpu", "can't allocate"), ("numpy", "8.00 PiB")]
)
def test_out_of_memory_halves_the_micro_batch_and_repeats_the_step(device: str, words: str) -> None:
    whole, lines = finetune(tiny_model(), Pictures(), recipe(mixup=0.8)), Lines()
    losses = short_of_memory(1, device)
    short = finetune(tiny_model(), Pictures(), recipe(mixup=0.8), losses=losses, progress=lines)
    assert "images at a time do not fit into memory; went on with 1, which give the same gradients" in lines.said[0]
    assert len(lines.said) == 1
    assert_same_weights(short, whole.model.timm_state_dict(), 2e-6)
    assert short.history[0].micro_batch == 1
    with pytest.raises(TrainingError, match=f"one image at a time does not fit .*{words}"):
        finetune(tiny_model(), Pictures(), recipe(), losses=short_of_memory(0, device))


def test_other_errors_halve_nothing() -> None:
    def losses(model: Model, images: torch.Tensor, targets: torch.Tensor, criterion: Any) -> dict[str, torch.Tensor]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        finetune(tiny_model(), Pictures(), recipe(), losses=losses)


# Averaged weights and precision


def test_averaged_weights_are_given_back() -> None:
    decay, fields = 0.7, {"schedule": "constant", "steps_per_round": 1, "lr": 1e-2}
    path = [tiny_model(), *(finetune(tiny_model(), Pictures(), recipe(rounds=n, **fields)).model for n in (1, 2, 3))]
    expected = path[0].timm_state_dict()
    for model in path[1:]:
        state = model.timm_state_dict()
        expected = {name: decay * value + (1 - decay) * state[name] for name, value in expected.items()}
    averaged = finetune(tiny_model(), Pictures(), recipe(rounds=3, ema=decay, **fields))
    assert_same_weights(averaged, expected)
    assert len(averaged.history) == 3


def test_bfloat16_steps_differ_a_little_and_keep_float32_weights() -> None:
    exact = finetune(tiny_model(), Pictures(), recipe())
    rough = finetune(tiny_model(), Pictures(), recipe(precision="bfloat16"))
    assert all(value.dtype == torch.float32 for value in rough.model.timm_state_dict().values())
    assert weights_digest(rough.model) != weights_digest(exact.model)
    assert rough.history[0].losses["clean"] == pytest.approx(exact.history[0].losses["clean"], rel=0.02)


@pytest.mark.slow
def test_compiled_steps_give_the_same_weights() -> None:
    whole = finetune(tiny_model(), Pictures(), recipe(drop_path=0.0))
    fast = finetune(tiny_model(), Pictures(), recipe(compile=True))
    assert_same_weights(fast, whole.model.timm_state_dict(), 1e-4)
    assert "forward_features" not in vars(fast.model.vit)
    assert cross_entropy(fast.model(torch.rand(2, 3, 16, 16)), torch.tensor([0, 1])).isfinite()
