"""What a method of one's own may do wrong: the model that it is given stays as it is, and the rest is one line."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from training_reference import Pictures, recipe, tiny_model

from nsbench.errors import ModelError, TrainingError
from nsbench.models import weights_digest
from nsbench.models.attention import patch_size
from nsbench.run.lent import lent
from nsbench.training import finetune
from nsbench.training.relevance import require_class_token
from nsbench.training.step import mean_losses


def test_a_method_is_lent_a_copy() -> None:
    model = tiny_model()
    before, draws = weights_digest(model), []
    for seed in (1, 1, 2):
        with lent("mine", model, model, seed) as (own, start), torch.no_grad():
            assert own is start
            next(own.parameters()).zero_()
            draws.append(torch.rand(1).item())
    assert weights_digest(model) == before
    assert draws[0] == draws[1] != draws[2]


def test_what_cannot_be_copied_is_put_back_and_refused() -> None:
    model = tiny_model()
    model.vit.generators = (one for one in ())  # which nothing copies
    before = weights_digest(model)
    with lent("mine", model, model, 0) as (own, _):
        assert own is model
    for change in (
        lambda own: next(own.parameters()).data.zero_(),
        lambda own: own.half(),
        lambda own: setattr(own.vit, "head", torch.nn.Identity()),
    ):
        with (
            pytest.raises(TrainingError, match="mine trains the model that it is given"),
            lent("mine", model, model, 0) as (own, _),
        ):
            change(own)
        assert weights_digest(model) == before


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "losses returned no terms"),
        (None, "losses returned NoneType"),
        ({"c": torch.ones(4)}, r"the term 'c' is a tensor of shape \(4,\)"),
        ({"c": 1.0}, "the term 'c' is float"),
        ({"c": torch.tensor(1.0)}, "no weight that is trained has a part in the terms c"),
    ],
)
def test_losses_that_cannot_be_descended(found: Any, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        finetune(tiny_model(), Pictures(), recipe(), losses=lambda *given: found)


def test_a_noise_of_another_shape() -> None:
    with pytest.raises(TrainingError, match=r"a noise of shape \(1, 5, 7\), and what it is added to has \(1, 4, 12\)"):
        finetune(tiny_model(), Pictures(), recipe(), perturb=lambda *given: torch.ones(1, 5, 7))


def test_a_term_that_is_not_there_in_every_step_is_the_mean_of_the_others() -> None:
    steps = [{"a": torch.tensor(1.0)}, {"a": torch.tensor(3.0), "b": torch.tensor(4.0)}]
    assert mean_losses(steps, None, None) == {"a": 2.0, "b": 4.0}  # type: ignore[arg-type]


def test_passes_that_ran_out_of_memory_are_not_counted() -> None:
    def short(most: int) -> int:
        def losses(model: Any, images: Any, targets: Any, criterion: Any) -> dict[str, torch.Tensor]:
            loss = criterion(model(images), targets)
            if len(images) > most:
                raise MemoryError
            return {"clean": loss}

        return finetune(tiny_model(), Pictures(), recipe(), losses=losses).history[0].forward_equivalents

    assert short(2) == short(99) == 3 * 4 * 3


def test_tokens_of_hybrid_networks_are_measured_in_pixels() -> None:
    vit = timm.create_model("vit_tiny_r_s16_p8_224", pretrained=False)
    assert patch_size(vit) == (32, 32)
    assert patch_size(tiny_model().vit) == (8, 8)


def test_relevance_wants_a_class_token() -> None:
    model = tiny_model()
    require_class_token(model)
    model.vit.global_pool = "avg"
    with pytest.raises(ModelError, match="are not those of a class token"):
        require_class_token(model)
