"""Weights between two models, and a method that is given the model that its chain started from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_reference import Pictures, recipe, tiny_model

from nsbench import registry
from nsbench.errors import ModelError, UsageError
from nsbench.models import Model, Preprocessing, weights_digest
from nsbench.progress import SILENT
from nsbench.run.fit import Fitter
from nsbench.run.kept_fits import Fitted
from nsbench.training import finetune
from nsbench.training.averaging import interpolation


@pytest.fixture(autouse=True, scope="module")
def _content() -> None:
    registry.load_content()


class Source:
    """A data source with a training split and nothing else."""

    def split(self, name: str, progress: Any) -> Pictures:
        return Pictures()


def linear(seed: int, norm: bool = False) -> Model:
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(3 * 16 * 16, 5), *([nn.BatchNorm1d(5)] if norm else [])]
    net = nn.Sequential(*layers)
    net.num_classes = 5  # type: ignore[assignment]
    if norm:
        net[2].running_mean.uniform_()
        net[2].num_batches_tracked.fill_(seed)
    return Model(net, name="linear", preprocessing=Preprocessing(16), mean=(0.5,) * 3, std=(0.5,) * 3)


def fit(name: str, folder: Path, parent: Model | None = None, **fields: Any) -> Fitted:
    fitter = Fitter(recipe(noise_max_steps=2, rounds=2, **fields), Source(), SILENT, folder=folder)  # type: ignore[arg-type]
    found = fitter.fit(registry.methods[name], parent or tiny_model(), "p")
    assert found.key == fitter.key(registry.methods[name], parent or tiny_model(), "p")
    return found


def test_the_ends_are_the_two_models_bit_for_bit() -> None:
    start, fitted = linear(1, norm=True), linear(2, norm=True)
    with torch.no_grad():
        start.vit[1].weight[0, 0] = -0.0  # 1 * -0.0 + 0 * w would be 0.0
    assert weights_digest(interpolation(0.0)(start, fitted)) == weights_digest(start)
    assert weights_digest(interpolation(1.0)(start, fitted)) == weights_digest(fitted)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_logits_of_a_linear_model_are_between(alpha: float) -> None:
    start, fitted = linear(1), linear(2)
    digests = weights_digest(start), weights_digest(fitted)
    images = torch.rand(3, 3, 16, 16)
    found = interpolation(alpha)(start, fitted)(images)
    torch.testing.assert_close(found, (1 - alpha) * start(images) + alpha * fitted(images))
    assert digests == (weights_digest(start), weights_digest(fitted))


def test_running_statistics_are_averaged_and_counters_are_not() -> None:
    start, fitted = linear(1, norm=True), linear(2, norm=True)
    found = interpolation(0.5)(start, fitted)
    torch.testing.assert_close(found.vit[2].running_mean, (start.vit[2].running_mean + fitted.vit[2].running_mean) / 2)
    assert found.vit[2].num_batches_tracked == 2


def test_an_alpha_outside_is_refused_before_the_training() -> None:
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match=f"alpha {alpha:g} is not between 0"):
            registry.methods["wise_ft"].fit(tiny_model(), Pictures(0), recipe(), progress=SILENT, alpha=alpha)


def test_models_of_other_weights_have_nothing_between_them() -> None:
    with pytest.raises(ModelError, match="differ in their weights; nothing is between them"):
        interpolation(0.5)(linear(1), tiny_model())


def test_alone_it_is_half_of_a_finetuning_and_tells_of_it(tmp_path: Path) -> None:
    found, control = fit("wise_ft", tmp_path), fit("finetune", tmp_path)
    assert found.weights_digest == weights_digest(interpolation(0.5)(tiny_model(), control.model))
    assert found.weights_digest not in (control.weights_digest, weights_digest(tiny_model()))
    assert found.card.forward_equivalents == control.card.forward_equivalents
    assert [entry.losses for entry in found.card.history] == [entry.losses for entry in control.card.history]
    assert fit("wise_ft", tmp_path).card == found.card


@pytest.mark.parametrize("chain", ["ns+wise_ft", "finetune+ns+wise_ft"])
def test_in_a_chain_it_is_between_the_chain_s_start_and_the_model_before(tmp_path: Path, chain: str) -> None:
    before, found = fit(chain.removesuffix("+wise_ft"), tmp_path), fit(chain, tmp_path)
    assert found.weights_digest == weights_digest(interpolation(0.5)(tiny_model(), before.model))
    assert found.card.forward_equivalents == before.card.forward_equivalents, "a training cost of its own"
    assert [entry.losses for entry in found.card.history] == [entry.losses for entry in before.card.history]
    assert found.card.lineage[-1].method == "wise_ft"
    again = fit(chain, tmp_path)
    assert (again.card, again.weights_digest) == (found.card, found.weights_digest)


def test_after_a_method_that_does_not_train_it_is_as_alone(tmp_path: Path) -> None:
    assert fit("pretrained+wise_ft", tmp_path).weights_digest == fit("wise_ft", tmp_path).weights_digest


def test_keys_of_such_a_method_depend_on_the_start_and_those_of_others_do_not() -> None:
    fitter = Fitter(recipe(), Source(), SILENT)  # type: ignore[arg-type]
    for name, differs in (("wise_ft", True), ("ns", False)):
        one, other = (fitter.key(registry.methods[name], tiny_model(), "p", start) for start in ("a", "b"))
        assert (one != other) == differs
    assert fitter.key(registry.methods["ns"], tiny_model(), "p") == fitter.key(
        registry.methods["ns"], tiny_model(), "p", "p"
    )


def test_a_method_that_does_not_ask_is_given_no_start(tmp_path: Path) -> None:
    assert not registry.methods["finetune"].takes_start
    assert registry.methods["wise_ft"].takes_start
    assert not registry.methods["ns+wise_ft"].takes_start  # its parts are asked
    assert fit("finetune", tmp_path).weights_digest == weights_digest(
        finetune(tiny_model(), Pictures(), recipe(noise_max_steps=2, rounds=2)).model
    )
