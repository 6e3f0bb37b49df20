"""Fingerprints: owners and finetuned copies are recognised, unrelated models are not, and p-values keep their level."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.stats
import torch
from click.testing import CliRunner
from timm.models.vision_transformer import VisionTransformer

from nsbench.cli import main
from nsbench.errors import ModelError, UsageError
from nsbench.models import Model, Preprocessing, load_model, save_weights
from nsbench.nullspace import least_squares, patch_nullspace
from nsbench.nullspace.fingerprint import (
    kept,
    make_fingerprint,
    mcnemar_greater,
    monte_carlo_p,
    patch_transform,
    predictions,
    verify,
)


def tiny_model(seed: int = 0) -> Model:
    """Independent weights for each seed; of the patch embedding standard normal, so that its row space is isotropic."""
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = VisionTransformer(
            img_size=16,
            patch_size=4,
            embed_dim=16,
            depth=1,
            num_heads=2,
            num_classes=10,
            class_token=False,
            global_pool="avg",
        )
    with torch.no_grad():
        vit.patch_embed.proj.bias.zero_()  # so that classes differ between images
        vit.patch_embed.proj.weight.copy_(torch.randn(vit.patch_embed.proj.weight.shape, generator=draws))
        vit.head.weight.copy_(torch.randn(vit.head.weight.shape, generator=draws))
    return Model(vit, name="tiny", preprocessing=Preprocessing(16), mean=(0.5,) * 3, std=(0.25,) * 3)


def pictures(n: int = 30) -> torch.Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def finetuned(model: Model, images: torch.Tensor, steps: int = 10) -> Model:
    """A copy after some steps of AdamW towards random labels: every weight moves."""
    copy = deepcopy(model)
    optimiser = torch.optim.AdamW(copy.parameters(), lr=1e-4)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(copy(images), torch.arange(len(images)) % 10).backward()
        optimiser.step()
    return copy


def test_transform_is_the_cosine_transform_of_three_colours() -> None:
    matrix = patch_transform(4).numpy()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(48), atol=1e-12)
    patch = np.random.default_rng(0).normal(size=(3, 4, 4))
    grey = scipy.fft.dctn(patch.sum(axis=0) / 3**0.5, norm="ortho")
    np.testing.assert_allclose((matrix @ patch.ravel())[:16], grey.ravel(), atol=1e-12)
    blue = scipy.fft.dctn((patch[0] + patch[1] - 2 * patch[2]) / 6**0.5, norm="ortho")
    np.testing.assert_allclose((matrix @ patch.ravel())[32:], blue.ravel(), atol=1e-12)


def test_images_are_valid_and_only_the_owners_noise_is_null() -> None:
    model = tiny_model()
    space = patch_nullspace(model)
    mark = make_fingerprint(space, pictures(), decoys=3)
    assert mark.noise_MCHW.abs().max() <= 0.25
    assert mark.noise_MCHW.square().mean().sqrt() > 0.1  # and it is strong
    for noise in (mark.noise_MCHW, *mark.decoys_JMCHW):
        images = mark.images(noise)
        assert 0 <= images.min() <= images.max() <= 1
    assert space.leak(mark.noise_MCHW).max() < 0.02
    assert space.leak(mark.decoys_JMCHW.flatten(0, 1)).min() > 1


def test_decoys_have_the_owners_power_at_every_frequency() -> None:
    """Flipping signs keeps the diagonal of the projection in the transform's basis, the power of isotropic noise."""
    from nsbench.nullspace.fingerprint import _flipped
    from nsbench.nullspace.least_squares import row_space

    row, transform = row_space(patch_nullspace(tiny_model())), patch_transform(4)
    flipped = _flipped(row, transform, seed=1)
    power = [(transform @ part).square().sum(dim=1) for part in (row, flipped)]
    torch.testing.assert_close(*power)
    overlap = torch.linalg.svdvals(row.T @ flipped)
    assert overlap.min() < 0.5  # and the span is another


def test_owner_and_finetuned_copy_are_recognised_and_others_are_not() -> None:
    owner, images = tiny_model(), pictures(60)
    mark = make_fingerprint(patch_nullspace(owner), images, decoys=39)
    others = {f"other {seed}": tiny_model(seed) for seed in (1, 2)}
    for copy in (owner, finetuned(owner, images)):
        found = verify(mark, copy, others, alpha=0.05)
        assert found.agreement > 0.9
        assert found.p_value == 1 / 40
        assert found.p_independent is not None
        assert found.p_independent < 0.01
        assert found.owned
    for name, model in others.items():
        found = verify(mark, model, {key: value for key, value in others.items() if key != name}, alpha=0.05)
        assert found.agreement < 0.8
        assert not found.owned
        assert found.low < found.agreement < found.high


def test_a_model_that_always_says_the_same_is_no_copy() -> None:
    owner, constant = tiny_model(), tiny_model(1)
    with torch.no_grad():
        constant.vit.head.weight.zero_()
    found = verify(make_fingerprint(patch_nullspace(owner), pictures(), decoys=19), constant, alpha=0.05)
    assert found.agreement == 1
    assert found.p_value == 1
    assert not found.owned


def test_p_values_keep_their_level_for_unrelated_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """120 owners whose row spaces are isotropic, one suspect: p is at most alpha no more often than alpha."""
    monkeypatch.setattr(least_squares, "ITERATIONS", 10)  # rougher noises, the owner's and the decoys' alike
    suspect, images = tiny_model(1000), pictures(20)
    found = [
        verify(
            make_fingerprint(patch_nullspace(tiny_model(seed)), images, noises=1, decoys=19, seed=seed),
            suspect,
            alpha=0.05,
        ).p_value
        for seed in range(120)
    ]
    for alpha in (0.05, 0.1, 0.3):
        hits = sum(p <= alpha + 1e-9 for p in found)
        assert scipy.stats.binomtest(hits, 120, alpha, alternative="greater").pvalue > 0.001, (alpha, hits)
    assert 0.4 < np.mean(found) < 0.7  # about one half, and more by ties


def test_exact_p_values() -> None:
    assert monte_carlo_p(0.9, [0.1, 0.9, 0.95]) == 3 / 4  # ties count against the claim
    assert monte_carlo_p(1.0, [0.5] * 99) == 0.01
    first = np.array([True] * 9 + [False] * 3)
    second = np.array([True] * 2 + [False] * 7 + [True] + [False] * 2)
    expected = scipy.stats.binomtest(7, 8, 0.5, alternative="greater").pvalue
    assert mcnemar_greater(first, second) == pytest.approx(expected)
    assert mcnemar_greater(first, first) == 1


def test_draws_depend_on_the_seed_alone() -> None:
    space = patch_nullspace(tiny_model())
    first, again, other = (make_fingerprint(space, pictures(4), decoys=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.noise_MCHW, again.noise_MCHW)
    assert torch.equal(first.decoys_JMCHW, again.decoys_JMCHW)
    assert not torch.equal(first.noise_MCHW, other.noise_MCHW)


def test_errors() -> None:
    model = tiny_model()
    space = patch_nullspace(model)
    with pytest.raises(UsageError, match=r"strength 0\.6"):
        make_fingerprint(space, pictures(), strength=0.6)
    with pytest.raises(UsageError, match="0 decoys"):
        make_fingerprint(space, pictures(), decoys=0)
    mark = make_fingerprint(space, pictures(4), decoys=9)
    with pytest.raises(UsageError, match=r"9 decoys cannot give a p-value of 0\.01 or less; take at least 99"):
        verify(mark, model)
    with pytest.raises(ModelError, match="takes images of 48 pixels and the fingerprint has 16"):
        verify(mark, load_model("vit_shapes10"), alpha=0.2)


def test_finetuned_vit_shapes10_on_the_command_line(tmp_path: Path) -> None:
    owner = load_model("vit_shapes10")
    images = torch.rand(16, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    save_weights(finetuned(owner, images, steps=3), tmp_path / "copy.safetensors")
    other = deepcopy(owner)
    draws = torch.Generator().manual_seed(5)
    weight = other.patch_embed.proj.weight.data  # type: ignore[union-attr]
    weight.copy_(torch.randn(weight.shape, generator=draws) * weight.std())
    save_weights(other, tmp_path / "other.safetensors")
    words = [
        "nullspace",
        "fingerprint",
        "--limit",
        24,
        "--decoys",
        19,
        "--alpha",
        0.05,
        "--suspect",
        tmp_path / "copy.safetensors",
        "--independent",
        tmp_path / "other.safetensors",
        "--out",
        tmp_path / "out",
        "--save",
        tmp_path / "png",
    ]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out/fingerprint.vit_shapes10.json").read_text())
    shares = {row[0]: row[-1] for row in record["rows"]}
    assert shares == {"the owner's model": "yes", "copy": "yes", "other": "no", "fresh weights": "no"}
    assert len(list((tmp_path / "png/fingerprint").iterdir())) == 24
    assert (tmp_path / "out/fingerprint.vit_shapes10.images.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--suspect", "absent.safetensors"), "checkpoint 'absent.safetensors' does not exist"),
        (("--suspect", "vit_shapes11"), "unknown model 'vit_shapes11'"),
        (
            ("--suspect", "vit_shapes10", "--independent", "vit_shapes10", "--decoys", "9"),
            "9 decoys cannot give a p-value",
        ),
        (("--strength", "0"), "fingerprint strength 0"),
    ],
)
def test_command_errors_are_one_line(words: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["nullspace", "fingerprint", "--limit", "4", "--out", str(tmp_path), *words])
    assert done.exit_code != 0
    assert expected in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_predictions_are_those_of_the_model() -> None:
    model = tiny_model()
    images = pictures(150)  # more than one batch
    assert (predictions(model, images) == model(images).argmax(dim=1).numpy()).all()
    assert kept(make_fingerprint(patch_nullspace(model), images, decoys=1), model).all()
