"""Discretisers and discrete adversarial images: against diffusers, torchattacks, closed forms and the formula by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_training_survives import Stop
from torch.nn.functional import cross_entropy
from training_reference import Pictures, assert_same_weights, recipe, reference, tiny_model

from nsbench import registry
from nsbench.errors import ModelError, UsageError
from nsbench.models import Model, frozen, weights_digest
from nsbench.models.vq import Codebook, VQAutoencoder, load_vq
from nsbench.progress import SILENT
from nsbench.randomness import derive_seed
from nsbench.results import Round
from nsbench.run.fit import Fitter
from nsbench.training import Discretiser
from nsbench.training.augment import seeded
from nsbench.training.discretiser import _opened, one_step

SIZES: dict[str, Any] = {"widths": [8, 16, 24], "layers": 1, "latent": 4, "codes": 32, "groups": 8}


@pytest.fixture(autouse=True, scope="module")
def _content() -> None:
    registry.load_content()


def network(spread: float = 1.0) -> VQAutoencoder:
    """Untrained, with a codebook as wide as the latents, so that different images get different codes."""
    with seeded(4):
        vq = VQAutoencoder(**SIZES).eval()
        with torch.no_grad():
            vq.quantize.embedding.weight.normal_(std=spread)
    return vq.requires_grad_(False)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "toy.safetensors"
    save_file(network().state_dict(), path, metadata={"sizes": json.dumps(SIZES)})
    return path


def images_of(n: int, side: int = 16) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


class Identity:
    """A quantiser that keeps everything: its codes are the pixels."""

    def indices(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        return pixels_B3HW

    def pictures(self, indices: torch.Tensor) -> torch.Tensor:
        return indices


# The autoencoder


def test_the_autoencoder_is_diffusers_own_with_the_same_weights(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=SIZES["widths"],
        layers_per_block=SIZES["layers"],
        latent_channels=SIZES["latent"],
        num_vq_embeddings=SIZES["codes"],
        norm_num_groups=SIZES["groups"],
        mid_block_add_attention=False,
    ).eval()
    own, pixels = network(), 2 * images_of(3, 32) - 1
    theirs.load_state_dict(own.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(own(pixels), theirs(pixels).sample, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(own.latents(pixels), theirs.encode(pixels).latents, rtol=1e-4, atol=1e-4)
    theirs.save_pretrained(tmp_path / "theirs")
    opened = Discretiser.open(str(tmp_path / "theirs"), tiny_model(), Pictures())
    torch.testing.assert_close(opened(images_of(4)), Discretiser(own)(images_of(4)), rtol=1e-4, atol=1e-4)
    assert len(set(opened.codes(images_of(4)).flatten().tolist())) > 1
    before, file = Discretiser.needs(Pictures(), str(tmp_path / "theirs")), tmp_path / "theirs" / "config.json"
    record = json.loads(file.read_text())
    for change, same in (({"_diffusers_version": "0"}, True), ({"norm_num_groups": 1}, False)):
        file.write_text(json.dumps(record | change))
        _opened.cache_clear()
        assert (Discretiser.needs(Pictures(), str(tmp_path / "theirs")) == before) is same


def test_a_codebook_entry_is_kept_as_it_is() -> None:
    book = Codebook(16, 3)
    every = torch.arange(16).view(1, 4, 4)
    assert torch.equal(book.indices(book.codes(every)), every)


def test_what_codes_stand_for_is_stable_where_every_code_has_a_patch_of_its_own() -> None:
    class Blocks:
        """A code is the mean grey of a 4 x 4 block, in quarters."""

        def indices(self, pixels: torch.Tensor) -> torch.Tensor:
            return (torch.nn.functional.avg_pool2d(pixels.mean(dim=1), 4) * 4).round().long()

        def pictures(self, indices: torch.Tensor) -> torch.Tensor:
            return indices.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].expand(-1, 3, -1, -1) / 4

    quantise = Discretiser(Blocks())
    once = quantise(images_of(5))
    assert not torch.equal(once, images_of(5))
    assert torch.equal(quantise(once), once)


def test_a_file_that_is_no_discretiser_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"x\.safetensors: is no discretiser"):
        load_vq(tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="come with no discretiser; give the setting discretiser="):
        Discretiser.needs(Pictures())
    pytest.importorskip("diffusers")
    with pytest.raises(UsageError, match=r"^discretiser /nowhere: cannot be opened .+; give the folder or owner/name"):
        Discretiser.needs(Pictures(), "/nowhere")


def test_a_factor_that_does_not_divide_the_side_is_refused(kept: Path) -> None:
    model = tiny_model()
    model.preprocessing = replace(model.preprocessing, size=18)
    with pytest.raises(UsageError, match=r"gives \(16, 16\) pixels for the 18 x 18 of model 'tiny'"):
        Discretiser.open(str(kept), model, Pictures())


# The perturbation


def test_without_quantising_it_is_one_step_of_torchattacks_pgd_l2() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    model, images, labels = tiny_model().eval(), images_of(6), torch.arange(6) % 5
    attack = torchattacks.PGDL2(model, eps=0.1, alpha=0.1, steps=1, random_start=False)
    found = Discretiser(Identity()).adversarial(model, images, labels, cross_entropy, random_start=0)
    torch.testing.assert_close(found, attack(images, labels), rtol=0, atol=1e-6)
    assert not torch.equal(found, images)


@pytest.mark.parametrize("random_start", [0.0, 1.0])
def test_the_step_stays_in_the_ball_and_raises_the_loss(random_start: float) -> None:
    model, images, labels = tiny_model(), images_of(8), torch.arange(8) % 5
    with seeded(3):
        moved = one_step(model, images, labels, cross_entropy, 0.1, random_start)
    lengths = (moved - images).flatten(1).norm(dim=1)
    assert lengths.max() <= 0.1 + 1e-6
    assert lengths.min() > 0.02
    assert cross_entropy(model(moved), labels) > cross_entropy(model(images), labels)


def test_the_random_start_is_drawn_as_often_as_asked() -> None:
    model, images, labels = tiny_model(), images_of(2), torch.zeros(2, dtype=torch.long)
    plain = one_step(model, images, labels, cross_entropy, 0.1, 0)
    other = 0
    for seed in range(100):
        with seeded(seed):
            other += not torch.equal(one_step(model, images, labels, cross_entropy, 0.1, 0.8), plain)
    assert 65 <= other <= 93


def test_radius_zero_tells_the_two_readings_apart() -> None:
    vq = Discretiser(network())
    images, labels = images_of(6), torch.arange(6) % 5
    made = partial(vq.adversarial, tiny_model(), images, labels, cross_entropy, radius=0.0)
    assert torch.equal(made(straight_through=True), vq(images))
    assert torch.equal(made(straight_through=False), vq(vq(images)))
    assert not torch.equal(vq(images), vq(vq(images)))


def test_pixels_outside_are_clipped_before_they_are_quantised() -> None:
    vq, images = Discretiser(network()), 3 * images_of(4) - 1
    found = vq.adversarial(tiny_model(), images, torch.zeros(4, dtype=torch.long), cross_entropy, radius=0.0)
    assert torch.equal(found, vq(images.clamp(0, 1)))


def test_the_model_is_as_it_was_after_the_step() -> None:
    model = tiny_model().eval()
    model.vit.blocks[0].attn.proj.weight.requires_grad_(False)
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    one_step(model, images_of(2), torch.zeros(2, dtype=torch.long), cross_entropy, 0.1, 0)
    assert not model.training
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == wanted
    assert all(parameter.grad is None for parameter in model.parameters())


# The method


def fit(r: Any, kept: Path, model: Model | None = None, **more: Any) -> Any:
    fitted = registry.methods["dat"].fit
    return fitted(model or tiny_model(), Pictures(), r, progress=SILENT, discretiser=str(kept), **more)


@pytest.mark.parametrize("straight_through", [True, False])
def test_dat_against_its_formula(kept: Path, straight_through: bool) -> None:
    r, vq = recipe(lr=1e-3, min_lr=1e-4), network()

    def quantised(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return (vq(images * 2 - 1).clamp(-1, 1) + 1) / 2

    def terms(model: Model, images: torch.Tensor, labels: torch.Tensor, step: int) -> list[torch.Tensor]:
        centre = start = quantised(images)
        with seeded(derive_seed(r.seed, "training", "step", step)):
            if torch.rand(()) < 0.8:
                noise = torch.randn_like(centre)
                start = (centre + 0.1 * noise / noise.flatten(1).norm(dim=1)[:, None, None, None]).clamp(0, 1)
        start.requires_grad_()
        with frozen(model):
            (slope,) = torch.autograd.grad(cross_entropy(model(start), labels, reduction="sum"), start)
        moved = []
        for one, middle, point, up in zip(images, centre, start.detach(), slope, strict=True):
            step_ = point + 0.1 * up / up.norm() - middle
            step_ = (middle + step_ * min(1.0, 0.1 / step_.norm().item())).clamp(0, 1) - middle
            moved.append(((one if straight_through else middle) + step_).clamp(0, 1))
        model.train()
        return [cross_entropy(model(x), labels) for x in (images, quantised(torch.stack(moved)))]

    expected, losses = reference(tiny_model(), Pictures(), r, terms)
    trained = fit(r, kept, ema=0.0, straight_through=straight_through)
    assert_same_weights(trained, expected, 1e-5)
    assert trained.history[0].losses["discrete"] == pytest.approx(sum(step[1] for step in losses) / 3, abs=1e-5)
    assert trained.history[0].losses["clean"] == pytest.approx(sum(step[0] for step in losses) / 3, abs=1e-5)


def test_its_gradient_by_central_differences() -> None:
    """Of the sum of both terms, with the discrete images fixed, as they are in a step."""
    model, images, labels = tiny_model().double(), images_of(3).double(), torch.arange(3)
    vq = Discretiser(network().double())
    discrete = vq.adversarial(model, images, labels, cross_entropy, random_start=0)

    def loss() -> torch.Tensor:
        return cross_entropy(model(images), labels) + cross_entropy(model(discrete), labels)

    weight = model.vit.blocks[0].attn.qkv.weight
    (slope,) = torch.autograd.grad(loss(), weight)
    for place in ((0, 0), (13, 5), (30, 11)):
        assert slope[place].item() == pytest.approx(numerical(loss, weight, place), rel=1e-6, abs=1e-9)


def numerical(loss: Any, weight: torch.Tensor, place: tuple[int, ...], h: float = 1e-5) -> float:
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            weight[place] += sign * h
            values.append(loss().item())
            weight[place] -= sign * h
    return (values[0] - values[1]) / (2 * h)


def test_it_gives_the_averaged_weights_back(kept: Path) -> None:
    r = recipe(rounds=2)
    last, averaged = fit(r, kept, ema=0.0), fit(r, kept)
    assert weights_digest(last.model) != weights_digest(averaged.model)
    assert weights_digest(fit(r.model_copy(update={"ema": 0.5}), kept).model) == weights_digest(
        fit(r, kept, ema=0.5).model
    )
    near = fit(r, kept, ema=0.999999).model.timm_state_dict()  # e <- d e + (1 - d) w: nearly the start after six steps
    assert_same_weights(tiny_model(), near, 1e-5)


def test_averaging_equal_weights_gives_d_to_the_n() -> None:
    from nsbench.training.optimisation import averaged

    model, other, decay = tiny_model(), tiny_model(), 0.96
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 1
    ema = averaged(model, recipe(ema=decay))
    assert ema is not None
    for _ in range(5):
        ema.update(other)
    start, moved, found = (one.timm_state_dict() for one in (model, other, ema.module))
    for name, value in found.items():
        torch.testing.assert_close(value, decay**5 * start[name] + (1 - decay**5) * moved[name])


def test_cost_counts_the_attack_and_the_discretiser(kept: Path) -> None:
    batch, steps = 4, 3
    r, vq = recipe(), Discretiser.open(str(kept), tiny_model(), Pictures())
    assert vq.passes > 1  # as much as several passes of so tiny a transformer
    spent = fit(r, kept).history[0].forward_equivalents
    # a forward and a backward pass for the step, three for each of the two terms, and two passes of the discretiser
    assert spent == (2 + 6) * batch * steps + steps * 2 * round(vq.passes * batch)


def test_the_history_tells_what_the_discretiser_keeps(kept: Path) -> None:
    entry = fit(recipe(), kept).history[0]
    assert entry.facts["discretiser"] == f"toy {Discretiser.needs(Pictures(), str(kept))}"
    assert 0 < entry.facts["psnr"] < 40
    assert 1 <= entry.facts["codes_used"] <= 32
    assert {"top1", "top1_discretised"} <= entry.facts.keys()
    assert fit(recipe(), kept, radius=0.0).history[0].facts["codes_changed"] == 0
    assert fit(recipe(), kept, radius=5.0).history[0].facts["codes_changed"] > 0


def test_an_interrupted_training_ends_where_a_whole_one_does(kept: Path, tmp_path: Path) -> None:
    r, path = recipe(rounds=3, mixup=0.8, random_erasing=0.5, drop_path=0.3, flip=0.5), tmp_path / "training"
    whole = fit(r, kept)

    def stop(model: Model, entry: Round) -> dict[str, float]:
        if entry.round == 2:
            raise Stop
        return {}

    with pytest.raises(Stop):
        fit(r, kept, checkpoint=path, on_round=stop)
    rest = fit(r, kept, checkpoint=path)
    assert weights_digest(rest.model) == weights_digest(whole.model)
    assert [entry.facts for entry in rest.history] == [entry.facts for entry in whole.history]


class Source:
    """A data source with a training split whose discretiser is at hand."""

    def __init__(self, kept: Path | None) -> None:
        self.kept = kept

    def split(self, name: str, progress: Any) -> Pictures:
        pictures = Pictures()
        pictures.discretiser = self.kept
        return pictures


def test_a_chain_starts_from_the_averaged_weights(kept: Path, tmp_path: Path) -> None:
    chain, r = registry.methods["dat+ns"], recipe(noise_max_steps=2)
    found = Fitter(r, Source(kept), SILENT, folder=tmp_path / "a").fit(chain, tiny_model(), "p")
    by_hand = registry.methods["ns"].fit(fit(r, kept).model, Pictures(), r, progress=SILENT)
    assert found.weights_digest == weights_digest(by_hand.model)
    assert [stage.method for stage in found.card.lineage] == ["dat", "ns"]


def test_other_weights_of_the_discretiser_are_another_fit(kept: Path, tmp_path: Path) -> None:
    method, model, other = registry.methods["dat"], tiny_model(), tmp_path / "other.safetensors"
    save_file(network(spread=2.0).state_dict(), other, metadata={"sizes": json.dumps(SIZES)})
    keys = [Fitter(recipe(), Source(path), SILENT).key(method, model, "p") for path in (kept, other)]
    assert keys[0] != keys[1]
    with pytest.raises(UsageError, match="come with no discretiser"):
        Fitter(recipe(), Source(None), SILENT).key(method, model, "p")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"radius": -0.1}, "radius -0.1, random_start 0.8: give"),
        ({"random_start": 1.5}, "radius 0.1, random_start 1.5: give"),
        ({"ema": 1.0}, "ema 1 is no decay"),
    ],
)
def test_settings_that_cannot_be_are_one_line(kept: Path, wrong: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words}"):
        fit(recipe(), kept, **wrong)
