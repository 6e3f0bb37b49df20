"""Recipes: every file parses, every wrong value is named."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from nsbench.errors import UnknownName, UsageError
from nsbench.training import Recipe, known_recipes, load_recipe


@pytest.mark.parametrize("name", known_recipes())
def test_every_recipe_parses(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.steps == recipe.rounds * recipe.steps_per_round
    assert len(recipe.digest()) == 16
    assert recipe.digest() == load_recipe(name).digest()


def test_the_four_are_there() -> None:
    assert {"paper", "plain", "quick", "shapes10"} <= set(known_recipes())


def test_paper_is_the_papers() -> None:
    recipe = load_recipe("paper")
    assert (recipe.rounds, recipe.steps_per_round, recipe.batch_size) == (20, 40, 128)
    assert (recipe.lr, recipe.min_lr, recipe.schedule, recipe.weight_decay) == (1e-5, 1e-6, "cosine", 0.05)
    assert (recipe.epsilon, recipe.noise_lr, recipe.noise_limit, recipe.noise_max_steps) == (0.03, 0.1, 3.0, 3000)
    assert (recipe.mixup, recipe.cutmix, recipe.label_smoothing, recipe.random_erasing) == (0.8, 1.0, 0.1, 0.25)
    assert (recipe.crop_scale, recipe.flip, recipe.drop_path) == ((0.08, 1.0), 0.5, 0.25)
    assert recipe.randaugment.startswith("rand-m9-mstd0.5")
    plain = load_recipe("plain")
    off = (plain.mixup, plain.cutmix, plain.label_smoothing, plain.random_erasing, plain.drop_path, plain.randaugment)
    assert off == (0, 0, 0, 0, 0, "")


def test_overrides_are_read_from_text() -> None:
    recipe = load_recipe("paper", {"rounds": "5", "lr": "3e-4", "crop_scale": "0.5,1", "seed": "2"})
    assert (recipe.rounds, recipe.lr, recipe.crop_scale, recipe.seed) == (5, 3e-4, (0.5, 1.0), 2)
    assert recipe.digest() != load_recipe("paper").digest()


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"Did you mean 'paper'.*quick"):
        load_recipe("papr")
    with pytest.raises(UnknownName, match="Did you mean 'rounds'"):
        load_recipe("paper", {"round": "3"})
    with pytest.raises(UnknownName):
        load_recipe("paper", {"name": "mine"})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rounds", "many", "rounds=many.*integer"),
        ("rounds", "0", "rounds=0.*greater than or equal to 1"),
        ("lr", "nan", "lr=nan.*finite"),
        ("epsilon", "-1", "epsilon=-1.*greater than 0"),
        ("noise_loss", "l1", "noise_loss=l1.*'l2' or 'squared_l2'"),
        ("crop_scale", "0.9,0.1", "low,high"),
        ("crop_scale", "0.9", "crop_scale=0.9"),
        ("min_lr", "0.1", "min_lr 0.1 is above lr"),
        ("batch_size", "17", "must be even"),
        ("randaugment", "strong", "timm's notation"),
        ("warmup_steps", "800", "leaves none of the 800 steps"),
    ],
)
def test_wrong_values_are_named_in_one_line(field: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_recipe("paper", {field: value})
    assert "\n" not in str(error.value)


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Recipe(name="x").rounds = 3  # type: ignore[misc]


def test_recipes_need_no_torch() -> None:
    code = "import sys, nsbench.training as t; t.load_recipe('paper'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        "rand-m9-inc1-mstd-5",
        "rand-",
        "rand",
        "rand-m9-",
        "rand-m",
        "rand-x3",
        "rand-m9.5",
        "rand-m9-mstdnan",
        "augmix-m9",
    ],
)
def test_randaugment_in_a_notation_that_timm_does_not_know(text: str) -> None:
    with pytest.raises(UsageError, match="must be in timm's notation"):
        load_recipe("plain", {"randaugment": text})


@pytest.mark.parametrize(
    "text", ["rand-m9-mstd0.5-inc1", "rand-n3-m10-p0.3", "rand-m9-mstd101-mmax20-t3a", "rand-m5-tweights"]
)
def test_randaugment_that_is_let_through_can_be_built(text: str) -> None:
    from timm.data.auto_augment import rand_augment_transform

    rand_augment_transform(load_recipe("plain", {"randaugment": text}).randaugment, {})
