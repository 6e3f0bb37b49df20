"""Training a part of the weights: what moves, what does not to the bit, what it costs; the probe of LP-FT."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made
import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from training_reference import Pictures, Stop, recipe, stop_in, tiny_model

from nsbench import registry
from nsbench.errors import UsageError
from nsbench.models import Model, Preprocessing, weights_digest
from nsbench.progress import SILENT
from nsbench.randomness import generator
from nsbench.results import Round
from nsbench.run.before import require_trainable
from nsbench.run.fit import recipe_used
from nsbench.run.study import fits
from nsbench.training import Probe, Recipe, Trained, finetune, load_recipe
from nsbench.training.trainable import Work, meant_by, train_only

HEAD = {"head.weight", "head.bias"}
NORMS = {f"{name}.{part}" for name in ("blocks.0.norm1", "blocks.1.norm2", "norm") for part in ("weight", "bias")}


def moved(before: Model, after: Model) -> set[str]:
    old = before.timm_state_dict()
    return {name for name, value in after.timm_state_dict().items() if not torch.equal(value, old[name])}


@pytest.mark.parametrize(
    ("words", "some", "none"),
    [
        ("head", HEAD, {"norm.weight", "blocks.1.mlp.fc2.weight", "patch_embed.proj.weight", "cls_token"}),
        ("last_1", HEAD | {"norm.weight", "blocks.1.attn.qkv.weight"}, {"blocks.0.attn.qkv.weight", "pos_embed"}),
        ("last_2", HEAD | {"blocks.0.norm1.weight"}, {"cls_token", "pos_embed", "patch_embed.proj.bias"}),
        ("norm", NORMS, HEAD | {"blocks.0.mlp.fc1.bias"}),
        ("bias", {"head.bias", "norm.bias", "patch_embed.proj.bias"}, {"head.weight", "norm.weight", "pos_embed"}),
        ("norm+head", NORMS | HEAD, {"blocks.0.mlp.fc1.bias", "cls_token"}),
    ],
)
def test_the_named_parameters_move_and_no_other_one_does(
    tmp_path: Path, words: str, some: set[str], none: set[str]
) -> None:
    left: list[bool] = []

    def look(model: Model, entry: Round) -> dict[str, float]:
        left.extend(p.grad is None for p in model.parameters() if not p.requires_grad)
        return {}

    model = tiny_model()
    path = tmp_path / "training"
    r = recipe(trainable=words, drop_path=0.2, rounds=2)
    changed = moved(model, finetune(model, Pictures(), r, checkpoint=path, on_round=look).model)
    assert some <= changed
    assert not none & changed
    assert left
    assert all(left)
    kept = torch.load(path, weights_only=True)["optimiser"]["state"]
    assert len(kept) == len(meant_by(model, words)) == len(changed)


def test_the_head_alone_is_logistic_regression_on_fixed_features() -> None:
    """Against AdamW on a linear layer, with the features computed once."""
    model, train, r = tiny_model().double(), Pictures(), recipe(trainable="head", schedule="constant")
    found = finetune(model, train, r).model
    weight, bias = (torch.nn.Parameter(p.detach().clone()) for p in model.vit.head.parameters())
    groups = [{"params": [weight], "weight_decay": r.weight_decay}, {"params": [bias], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=r.lr)
    with torch.no_grad():
        features = model.encode(model.embed(torch.from_numpy(train.pixels).permute(0, 3, 1, 2).float() / 255))
    order = np.concatenate([generator(r.seed, "training", "order", epoch).permutation(10) for epoch in (0, 1)])
    for step in range(r.steps):
        chosen = order[step * 4 : step * 4 + 4]
        optimiser.zero_grad()
        cross_entropy(features[chosen] @ weight.T + bias, torch.from_numpy(train.labels[chosen])).backward()
        optimiser.step()
    torch.testing.assert_close(found.vit.head.weight, weight, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.vit.head.bias, bias, rtol=0, atol=1e-9)


def test_all_is_what_it_was_and_later_trainings_move_everything_again() -> None:
    model = tiny_model()
    probed = finetune(model, Pictures(), recipe(trainable="head")).model
    assert moved(model, probed) == HEAD
    everything = set(model.timm_state_dict())
    assert moved(probed, finetune(probed, Pictures(), recipe()).model) == everything


def cnn() -> Model:
    torch.manual_seed(1)
    net = timm.create_model("test_byobnet", num_classes=5)
    return Model(net, name="cnn", preprocessing=Preprocessing(32), mean=(0.5,) * 3, std=(0.5,) * 3)


class Larger(Pictures):
    def __init__(self) -> None:
        super().__init__()
        self.pixels = self.pixels.repeat(2, axis=1).repeat(2, axis=2)


def test_a_batch_norm_that_is_not_trained_keeps_its_statistics() -> None:
    model = cnn()
    assert {name.split(".")[0] for name in moved(model, finetune(model, Larger(), recipe(trainable="head")).model)} == {
        "head"
    }
    norms = moved(model, finetune(model, Larger(), recipe(trainable="norm")).model)
    assert {name.rpartition(".")[2] for name in norms} >= {"weight", "bias", "running_mean"}
    assert all(".bn" in name or "norm" in name for name in norms)


# What makes no sense


@pytest.mark.parametrize("words", ["", "tail", "last_0", "last_", "head+", "all+head", "Head", "last_2 "])
def test_words_that_mean_nothing_are_refused_in_a_line(words: str) -> None:
    with pytest.raises(UsageError, match=r"trainable '.*' is none of all, head, last_K, norm, bias") as error:
        load_recipe("quick", {"trainable": words})
    assert "\n" not in str(error.value)


def test_parts_that_the_model_does_not_have_are_refused_before_anything_is_read() -> None:
    for model, words, message in (
        (tiny_model(), "last_9", "trainable=last_9: model 'tiny' has 2 blocks"),
        (headless(), "last_1", "has no blocks; take all, head, norm or bias"),
        (headless(), "head", "trainable=head: model 'bare' has no such parameters; take all"),
        (headless(), "bias+norm", "trainable=norm: model 'bare' has no such parameters"),
    ):
        with pytest.raises(UsageError, match=message):
            finetune(model, Pictures(0), recipe(trainable=words))


def headless() -> Model:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 16), torch.nn.Flatten())
    net.num_classes = 5  # type: ignore[assignment]
    return Model(net, name="bare", preprocessing=Preprocessing(16), mean=(0.5,) * 3, std=(0.5,) * 3)


# Results that were kept before there was such a field


def test_the_default_is_stated_nowhere_so_that_kept_results_fit() -> None:
    digests = {name: load_recipe(name).digest() for name in ("paper", "plain", "quick", "shapes10")}
    assert digests == {  # of before the field
        "paper": "5fa276a62dfa0cc3",
        "plain": "5e82c51e978eda94",
        "quick": "9cc346b5e1944a55",
        "shapes10": "7a677b3544fea9c4",
    }
    part = load_recipe("quick", {"trainable": "head"})
    assert part.digest() != digests["quick"]
    assert "trainable" not in recipe_used(load_recipe("quick")).settings
    assert recipe_used(part).settings["trainable"] == "head"


def test_a_study_over_it_finds_results_that_do_not_state_it() -> None:
    old, part = (made.provenance(recipe=made.recipe(**settings)) for settings in ({}, {"trainable": "head"}))
    assert fits(old, {"trainable": "all"})
    assert fits(part, {"trainable": "head"})
    assert not fits(part, {"trainable": "all"})
    assert not fits(old, {"trainable": "head"})


# Cost


def test_costs_are_counted_as_far_as_a_backward_pass_goes() -> None:
    def cost(words: str, **fields: Any) -> int:
        return finetune(tiny_model(), Pictures(), recipe(trainable=words, **fields)).history[0].forward_equivalents

    images = 4 * 3
    matrices = {name: value.numel() for name, value in tiny_model().timm_state_dict().items() if value.ndim > 1}
    total = sum(matrices.values())
    behind = sum(size for name, size in matrices.items() if name.startswith(("blocks.1", "head")))
    assert cost("all") == 3 * images
    assert cost("head") == images + 3 * 2 * round(4 * matrices["head.weight"] / total)
    assert cost("last_1") == images + 3 * 2 * round(4 * behind / total)
    backward = (total - matrices["patch_embed.proj.weight"] - matrices["cls_token"] - matrices["pos_embed"]) / total
    assert cost("norm") == images + 3 * round(4 * backward)


@pytest.mark.parametrize("words", ["head", "last_1", "last_3", "norm", "bias", "all"])
def test_the_shares_are_about_those_of_counted_multiplications(words: str) -> None:
    """torch's own counter, on 65 tokens of width 96; the products of queries and keys are what weights do not tell."""
    vit = VisionTransformer(img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3, num_classes=10)
    model = Model(vit, name="v", preprocessing=Preprocessing(32), mean=(0.5,) * 3, std=(0.5,) * 3)
    train_only(model, words)
    with FlopCounterMode(display=False) as forward:
        logits = model(torch.rand(2, 3, 32, 32))
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    work = Work.of(model)
    share = backward.get_total_flops() / forward.get_total_flops()
    assert work.activations + work.weights == pytest.approx(share, abs=0.12)


def test_equal_compute_has_images_enough_where_steps_are_cheap() -> None:
    found = finetune(tiny_model(), Pictures(), recipe(trainable="head", compute=400.0, rounds=1))
    assert found.history[-1].step == 100
    assert sum(entry.forward_equivalents for entry in found.history) == 400


# LP-FT


def lp_ft(r: Recipe, model: Model | None = None, **run: Any) -> Trained:
    registry.load_content()
    return registry.methods["lp_ft"].fit(model or tiny_model(), Pictures(), r, progress=SILENT, **run)


ROUNDS: dict[str, Any] = {"rounds": 4, "steps_per_round": 2, "drop_path": 0.2, "mixup": 0.8}


def test_without_a_share_it_is_the_control_bit_for_bit() -> None:
    control = finetune(tiny_model(), Pictures(), recipe(**ROUNDS))
    assert weights_digest(lp_ft(recipe(**ROUNDS), share=0.0).model) == weights_digest(control.model)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_first_the_head_and_then_everything_on_the_shared_schedule(schedule: str) -> None:
    start, r = tiny_model(), recipe(**ROUNDS, schedule=schedule)
    changed: list[set[str]] = []

    def look(model: Model, entry: Round) -> dict[str, float]:
        changed.append(moved(start, model))
        return {}

    found = lp_ft(r, start, share=0.5, lr=0.05, on_round=look)
    control = finetune(tiny_model(), Pictures(), r)
    assert changed[:2] == [HEAD, HEAD]
    assert changed[2] == changed[3] == set(start.timm_state_dict())
    assert [entry.lr for entry in found.history[:2]] == [0.05, 0.05]
    assert [entry.lr for entry in found.history[2:]] == [entry.lr for entry in control.history[2:]]
    assert [entry.step for entry in found.history] == [2, 4, 6, 8]


def test_its_first_part_is_a_training_of_the_head() -> None:
    at: list[str] = []

    def look(model: Model, entry: Round) -> dict[str, float]:
        at.append(weights_digest(model))
        return {}

    lp_ft(recipe(**ROUNDS), share=0.5, lr=0.05, on_round=look)
    probe = recipe(**(ROUNDS | {"rounds": 2}), trainable="head", lr=0.05, schedule="constant")
    assert at[1] == weights_digest(finetune(tiny_model(), Pictures(), probe).model)


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("compute", [0.0, 90.0])
def test_it_goes_on_where_it_was_interrupted(tmp_path: Path, after: int, compute: float) -> None:
    r = recipe(**ROUNDS, ema=0.9, compute=compute)
    whole = lp_ft(r, share=0.5)
    with pytest.raises(Stop):
        lp_ft(r, share=0.5, checkpoint=tmp_path / "training", on_round=stop_in(after + 1))
    assert weights_digest(lp_ft(r, share=0.5, checkpoint=tmp_path / "training").model) == weights_digest(whole.model)


@pytest.mark.parametrize(("share", "lr"), [(1.0, 0.1), (-0.1, 0.1), (float("nan"), 0.1)])
def test_a_share_that_leaves_nothing_is_refused(share: float, lr: float) -> None:
    with pytest.raises(UsageError, match="must be at least 0, and below 1"):
        Probe(share, lr)


@pytest.mark.parametrize("lr", [0.0, -1.0, 2.0, float("nan")])
def test_a_learning_rate_that_is_none_is_refused(lr: float) -> None:
    with pytest.raises(UsageError, match=rf"learning rate is {lr:g}, and must be above 0"):
        Probe(0.25, lr)


def test_a_run_that_trains_asks_the_checkpoint_before_the_work() -> None:
    registry.load_content()
    for methods, refused in ((("pretrained", "finetune"), True), (("pretrained",), False)):
        job: Any = SimpleNamespace(
            options=SimpleNamespace(methods=methods), parent=tiny_model(), recipe=recipe(trainable="last_3")
        )
        if refused:
            with pytest.raises(UsageError, match="trainable=last_3: model 'tiny' has 2 blocks"):
                require_trainable(job)
        else:
            require_trainable(job)
