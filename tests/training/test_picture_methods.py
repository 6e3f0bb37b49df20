"""Methods of augmentation and views: what is the same for all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training_survives import Lines, Stop
from torch.nn.functional import cross_entropy
from torchvision.transforms import v2
from training_reference import Pictures, assert_same_weights, recipe, reference, tiny_model

import nsbench as nb
from nsbench import registry
from nsbench.errors import ModelError, UnknownName, UsageError
from nsbench.models import Model, weights_digest
from nsbench.progress import SILENT
from nsbench.randomness import derive_seed
from nsbench.results import Round
from nsbench.training import Recipe, Trained, Views, finetune
from nsbench.training.augment import Augmented, mix, seeded

METHODS = ["mixup", "randaugment", "augmix", "pr", "randaugment_pr", "augmix_pr"]
DRAWING = {"rounds": 2, "flip": 0.5, "crop_scale": (0.3, 1.0), "random_erasing": 0.5, "drop_path": 0.3}
DEIT = {"randaugment": "rand-m9-mstd0.5-inc1", "mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1}


@pytest.fixture(autouse=True, scope="module")
def _content() -> None:
    registry.load_content()


def fit(name: str, r: Recipe, *, model: Model | None = None, **settings: Any) -> Trained:
    options = {"progress": SILENT} | settings
    return registry.methods[name].fit(model or tiny_model(patch_size=4), Pictures(), r, **options)


def digest(trained: Trained) -> str:
    return weights_digest(trained.model)


@pytest.mark.parametrize("name", METHODS)
def test_workers_and_the_global_generators_change_nothing(name: str) -> None:
    torch.manual_seed(1)
    alone = fit(name, recipe(**DRAWING))
    torch.manual_seed(2)
    assert digest(fit(name, recipe(**DRAWING), workers=2)) == digest(alone)
    assert digest(fit(name, recipe(**DRAWING, seed=6))) != digest(alone)
    assert digest(fit("finetune", recipe(**DRAWING))) != digest(alone)


@pytest.mark.parametrize("name", METHODS)
def test_going_on_after_an_interruption_gives_the_same_weights(name: str, tmp_path: Path) -> None:
    r, path = recipe(**DRAWING | {"rounds": 3}, ema=0.9), tmp_path / "training"

    def stop(model: Model, entry: Round) -> dict[str, float]:
        if entry.round == 2:
            raise Stop
        return {}

    with pytest.raises(Stop):
        fit(name, r, checkpoint=path, on_round=stop)
    rest = fit(name, r, checkpoint=path)
    whole = fit(name, r)
    assert digest(rest) == digest(whole)
    assert [entry.losses for entry in rest.history] == [entry.losses for entry in whole.history]


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from test_picture_methods import DRAWING, digest, fit, registry
from training_reference import recipe
registry.load_content()
print(digest(fit("augmix_pr", recipe(**DRAWING | {"rounds": 12}), checkpoint=Path(sys.argv[1]), workers=int(sys.argv[2]))))
"""


def test_a_kill_loses_at_most_a_round(tmp_path: Path) -> None:
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{here.parent / 'support'}", "OMP_NUM_THREADS": "1"}

    def start(workers: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "training"), str(workers)]
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    killed = start(0)
    deadline = time.monotonic() + 120
    while not (tmp_path / "training").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert 1 <= torch.load(tmp_path / "training", weights_only=True)["round"] < 12
    again, errors = start(2).communicate(timeout=120)
    assert again.strip() == digest(fit("augmix_pr", recipe(**DRAWING | {"rounds": 12}))), errors


@pytest.mark.parametrize("name", METHODS)
def test_half_as_many_images_at_a_time_give_the_same_gradient(name: str) -> None:
    fields = {"flip": 0.5, "random_erasing": 0.5} | ({"mixup": 0.8} if name == "pr" else {})
    whole = fit(name, recipe(**fields), model=tiny_model(patch_size=4).double())
    parts = fit(name, recipe(**fields, micro_batch=2), model=tiny_model(patch_size=4).double())
    assert parts.history[0].micro_batch == 2
    assert_same_weights(parts, whole.model.timm_state_dict(), 1e-9)


@pytest.mark.parametrize(("name", "passes"), list(zip(METHODS, [1, 1, 3, 2, 2, 4], strict=True)))
def test_cost_is_that_of_the_passes(name: str, passes: int) -> None:
    batch, steps = 4, 3
    assert fit(name, recipe()).history[0].forward_equivalents == 3 * passes * batch * steps


@pytest.mark.parametrize(("name", "loss"), [("augmix", ""), ("pr", "uniform"), ("pr", "l2"), ("pr", "contrastive")])
def test_half_precision_gives_nearly_the_same_losses(name: str, loss: str) -> None:
    settings = {"loss": loss} if loss else {}
    full, half = (
        fit(name, recipe(steps_per_round=1, precision=precision), **settings).history[0].losses
        for precision in ("float32", "bfloat16")
    )
    assert half == pytest.approx(full, abs=0.05)
    assert half != full


class Caught(Exception):
    """What a method gave to finetune."""


def losses_of(monkeypatch: pytest.MonkeyPatch, name: str, model: Model, **settings: Any) -> Any:
    def catch(*given: Any, losses: Any, views: Views, **others: Any) -> None:
        raise Caught(losses)

    monkeypatch.setattr("nsbench.training.loop.finetune", catch)
    with pytest.raises(Caught) as caught:
        fit(name, recipe(), model=model, **settings)
    return caught.value.args[0]


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        ("augmix", {}, 3),
        ("pr", {}, 2),
        ("pr", {"loss": "l2", "weight": 1.5}, 2),
        ("pr", {"loss": "contrastive"}, 2),
        ("randaugment_pr", {"loss": "l2"}, 2),
        ("augmix_pr", {}, 4),
    ],
)
def test_gradients_against_central_differences(
    monkeypatch: pytest.MonkeyPatch, name: str, settings: dict[str, Any], count: int
) -> None:
    model, draws = tiny_model(patch_size=4).double().requires_grad_(True), torch.Generator().manual_seed(1)
    losses = losses_of(monkeypatch, name, model, **settings)
    views = torch.rand(4, count, 3, 16, 16, generator=draws, dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 1])

    def total() -> torch.Tensor:
        return torch.stack(list(losses(model, views, labels, cross_entropy).values())).sum()

    total().backward()
    weights = [weight for weight in model.parameters() if weight.grad is not None]
    along = [torch.randn(weight.shape, generator=draws, dtype=torch.float64) for weight in weights]
    slope = sum((weight.grad * way).sum().item() for weight, way in zip(weights, along, strict=True))

    def at(distance: float) -> float:
        with torch.no_grad():
            for weight, way in zip(weights, along, strict=True):
                weight += distance * way
            value = total().item()
            for weight, way in zip(weights, along, strict=True):
                weight -= distance * way
        return value

    assert (at(1e-6) - at(-1e-6)) / 2e-6 == pytest.approx(slope, rel=1e-6)


# The two that are augmentation alone


def mixup_terms(r: Recipe, alpha: float) -> Callable[..., list[torch.Tensor]]:
    def terms(model: Model, images: torch.Tensor, labels: torch.Tensor, step: int) -> list[torch.Tensor]:
        with seeded(derive_seed(r.seed, "training", "step", step)):
            np.random.rand()  # whether the batch is mixed: always
            share = np.random.beta(alpha, alpha)
        logits = model(share * images + (1 - share) * images.flip(0))
        own, partner = cross_entropy(logits, labels), cross_entropy(logits, labels.flip(0))
        return [share * own + (1 - share) * partner]

    return terms


@pytest.mark.parametrize("alpha", [0.2, 0.8])
def test_mixup_against_its_formula(alpha: float) -> None:
    model = tiny_model().double()
    expected, losses = reference(model, Pictures(), recipe(), mixup_terms(recipe(), alpha))
    fitted = fit("mixup", recipe(), model=model, alpha=alpha)
    assert_same_weights(fitted, expected, 1e-6)
    assert fitted.history[0].losses["clean"] == pytest.approx(sum(step[0] for step in losses) / 3, abs=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.3])
def test_mixing_against_torchvision(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    images, labels = torch.rand(2, 3, 16, 16), torch.tensor([1, 3])  # of two images, torchvision's partner is timm's
    theirs = v2.MixUp(alpha=0.8, num_classes=5)
    monkeypatch.setattr(theirs, "_dist", torch.distributions.Uniform(share, share + 1e-7, validate_args=False))
    monkeypatch.setattr("numpy.random.beta", lambda a, b: share)
    mixed, targets = mix(images, labels, recipe(mixup=0.8), 5)
    expected, wanted = theirs(images, labels)
    torch.testing.assert_close(mixed, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(targets, wanted, atol=1e-6, rtol=0)
    assert targets[0].tolist() == pytest.approx([0, share, 0, 1 - share, 0])


def test_smoothing_touches_mixed_targets_once() -> None:
    _, targets = mix(torch.rand(2, 3, 4, 4), torch.tensor([1, 1]), recipe(mixup=0.8, label_smoothing=0.1), 5)
    assert targets[0].tolist() == pytest.approx([0.02, 0.92, 0.02, 0.02, 0.02])


def test_randaugment_is_the_recipe_s_without_colour_jitter() -> None:
    r, operations = recipe(**DRAWING, color_jitter=0.4), "rand-m9-mstd0.5-inc1"
    expected = finetune(tiny_model(4), Pictures(), recipe(**DRAWING, randaugment=operations))
    assert digest(fit("randaugment", r)) == digest(expected)


def _operations(operations: str) -> Iterator[Any]:
    stream = Augmented(Pictures(), recipe(randaugment=operations), tiny_model(), stream="training", length=4)
    for step in stream.transform.transforms:
        yield from getattr(step, "ops", [])


def test_randaugment_s_operations() -> None:
    found = {operation.name: operation for operation in _operations("rand-m0-p1-inc1")}
    assert len(found) == 15
    picture = Pictures().load(0)
    for name in ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel", "SolarizeIncreasing", "SolarizeAdd"):
        assert found[name](picture).tobytes() == picture.tobytes()  # of no strength
    paper = {operation.name: operation for operation in _operations("rand-m9-mstd0.5-inc1")}
    assert all((operation.prob, operation.magnitude_std) == (0.5, 0.5) for operation in paper.values())
    assert {operation.kwargs["fillcolor"] for operation in paper.values()} == {(128, 128, 128)}  # the tiny model's mean


# What a recipe has already


def said(name: str, r: Recipe, **settings: Any) -> list[str]:
    lines = Lines()
    fit(name, r, progress=lines, **settings)
    return lines.said


def test_a_method_that_the_recipe_holds_says_that_it_is_its_control() -> None:
    r = recipe(**DEIT)
    assert said("mixup", r) == [
        "recipe 'test' has mixup 0.8 already; it stays as it is, and this method adds nothing else: its weights are "
        "those of the control"
    ]
    assert "has randaugment rand-m9-mstd0.5-inc1 already; it stays as it is" in said("randaugment", r)[0]
    for name in ("mixup", "randaugment"):
        assert digest(fit(name, r)) == digest(fit("finetune", r))
    alone = "it stays as it is, and this method adds its loss alone"
    assert said("randaugment_pr", r) == [f"recipe 'test' has randaugment rand-m9-mstd0.5-inc1 already; {alone}"]
    assert digest(fit("randaugment_pr", r)) == digest(fit("pr", r))
    assert "adds nothing else" in said("mixup", recipe(), alpha=0.0)[0]


def test_what_takes_the_place_of_the_recipe_s_is_named() -> None:
    assert said("mixup", recipe(mixup=0.2)) == ["recipe 'test' has mixup 0.2, and this method mixup 0.8 in its place"]
    left = "recipe 'test' has randaugment rand-m9-mstd0.5-inc1, mixup 0.8, cutmix 1, which this method leaves out"
    assert said("augmix", recipe(**DEIT)) == said("augmix_pr", recipe(**DEIT)) == [left]
    plain = recipe(label_smoothing=0.1)
    assert digest(fit("augmix", recipe(**DEIT))) == digest(fit("augmix", plain))
    assert all(said(name, plain) == [] for name in METHODS)


@pytest.mark.parametrize(
    ("name", "fields", "settings", "message"),
    [
        ("mixup", {}, {"alpha": -1.0}, r"recipe 'test' with what this method changes: mixup=-1\.0: Input should be"),
        ("mixup", {"batch_size": 5}, {}, r"batch_size 5 must be even"),
        ("randaugment", {}, {"operations": "rand-x"}, r"randaugment 'rand-x' must be in timm's notation"),
        ("augmix", {}, {"severity": 11.0}, r"^severity 11: is the strength of operations, above 0 and at most 10$"),
        ("augmix", {}, {"depth": 0}, r"^width 3, depth 0: need a width of at least 1"),
        ("pr", {}, {"tile": 6}, r"^tile 6: 'tiny' has 16 pixels in patches of 4; possible tiles: 4, 8$"),
        ("pr", {}, {"transform": "infill", "rate": 0.5}, r"^rate 0\.5: replaces 8 of 4 x 4 tiles; possible are 1 to 4"),
        ("pr", {}, {"loss": "contrastive", "temperature": 0.0}, r"^temperature 0: must be above 0$"),
        ("pr", {"mixup": 0.8}, {"loss": "contrastive"}, r"'contrastive' needs images of one class"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_line(
    name: str, fields: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        fit(name, recipe(**fields), **settings)
    assert "\n" not in str(refused.value)


def test_unknown_words_are_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="Known: infill, rotate, shuffle"):
        fit("pr", recipe(), transform="flip")
    with pytest.raises(UnknownName, match="Known: contrastive, l2, uniform"):
        fit("augmix_pr", recipe(), loss="kl")


def test_a_model_without_patches_has_none_to_move() -> None:
    vit = tiny_model()
    conv = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 16), torch.nn.Flatten())
    conv.num_classes = 5
    cnn = Model(conv, name="cnn", preprocessing=vit.preprocessing, mean=vit.mean, std=vit.std)
    for name in ("pr", "randaugment_pr", "augmix_pr"):
        with pytest.raises(ModelError, match=r"^model 'cnn' has no patches to move; .* vision transformer"):
            fit(name, recipe(), model=cnn)
    assert digest(fit("augmix", recipe(), model=cnn)) != digest(fit("finetune", recipe(), model=cnn))


def handed_on(monkeypatch: pytest.MonkeyPatch, name: str, r: Recipe, **settings: Any) -> dict[str, Any]:
    """What a method gives to `finetune`."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(nb, "finetune", lambda model, train, recipe, **more: given.update(more))
    registry.methods[name].fit(tiny_model(patch_size=4), Pictures(), r, **settings)
    return given


def test_weights_of_the_terms_are_those_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, views = tiny_model(patch_size=4).eval(), torch.rand(3, 4, 3, 16, 16, generator=torch.manual_seed(0))
    labels = torch.tensor([0, 1, 0])
    terms = []
    for js_weight, weight in ((1.0, 1.0), (5.0, 3.0)):
        losses = handed_on(monkeypatch, "augmix_pr", recipe(), js_weight=js_weight, weight=weight)["losses"]
        terms.append(losses(model, views, labels, cross_entropy))
    assert terms[1]["js"].item() == pytest.approx(5 * terms[0]["js"].item())
    assert terms[1]["negative"].item() == pytest.approx(3 * terms[0]["negative"].item())
    assert terms[1]["clean"].item() == terms[0]["clean"].item() != 0


def test_the_negative_view_is_held_against_the_view_that_it_was_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last of the two mixtures: what repels looks at that one alone."""
    model, views = tiny_model(patch_size=4).eval(), torch.rand(3, 4, 3, 16, 16, generator=torch.manual_seed(0))
    losses = handed_on(monkeypatch, "augmix_pr", recipe(), loss="l2")["losses"]

    def repelled(changed: int) -> float:
        other = views.clone()
        other[:, changed] = 0.5
        return float(losses(model, other, torch.tensor([0, 1, 0]), cross_entropy)["negative"].item())

    unchanged = losses(model, views, torch.tensor([0, 1, 0]), cross_entropy)["negative"].item()
    assert [repelled(view) == unchanged for view in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("name", ["randaugment", "randaugment_pr"])
def test_randaugment_leaves_out_the_recipe_s_colour_jitter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = handed_on(monkeypatch, name, recipe(color_jitter=0.3), operations="rand-m5-inc1")
    assert given["augmentation"] == {"randaugment": "rand-m5-inc1", "color_jitter": 0.0}
