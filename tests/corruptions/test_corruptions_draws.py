"""The random streams of our corruptions: published values, right distributions, the same as tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from nsbench.corruptions.draws import Draws, poisson_tables
from nsbench.corruptions.settings import CIFAR, IMAGENET
from nsbench.corruptions.tensor_draws import TensorDraws

KEYS = [0, 1, 2**63 - 1, 1234567]


def test_splitmix64_as_published() -> None:
    """The first outputs for seed 1234567, as in the reference implementation's test vectors."""
    expected = [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821
    ]  # fmt: skip
    high, low = Draws(1234567).bits(10).astype(np.uint64)
    assert ((high << np.uint64(32)) | low).tolist() == expected


def test_normal_and_uniform_distributions() -> None:
    draws = Draws(5)
    assert stats.kstest(draws.normal((200_001,)), "norm").pvalue > 1e-3
    assert stats.kstest(draws.uniform((200_001,)), "uniform").pvalue > 1e-3
    values = draws.normal((500, 400))
    for axis in (0, 1):
        rolled = np.roll(values, 1, axis)
        assert abs(np.corrcoef(values.ravel(), rolled.ravel())[0, 1]) < 4 / np.sqrt(values.size)


@pytest.mark.parametrize("rate", [60, 25, 12, 5, 3])
def test_poisson_distribution(rate: int) -> None:
    for value in (0, 1, 17, 128, 255):
        counts = Draws(value + 1).poisson(np.full(100_000, value, np.uint8), rate)
        mean = value / 255 * rate
        expected = stats.poisson.pmf(np.arange(256), mean) * counts.size
        common = expected > 5
        observed = np.bincount(counts, minlength=256)
        assert observed[~common].sum() <= expected[~common].sum() + 6 * np.sqrt(expected[~common].sum() + 1)
        if common.sum() > 1:
            chi2 = ((observed - expected)[common] ** 2 / expected[common]).sum()
            assert stats.chi2.sf(chi2, common.sum() - 1) > 1e-4


def test_poisson_tables_hold_the_distribution_exactly() -> None:
    thresholds, aliases = poisson_tables(12)
    buckets = thresholds.shape[1]
    kept = thresholds / (2**32 / buckets)
    for value in (0, 100, 255):
        mass = kept[value] / buckets
        np.add.at(mass, aliases[value], (1 - kept[value]) / buckets)
        assert np.allclose(mass, stats.poisson.pmf(np.arange(buckets), value / 255 * 12), atol=1e-7)


def test_integers_and_flips() -> None:
    counts = np.bincount(Draws(3).integers(-4, 4, (80_000,)) + 4)
    assert len(counts) == 8
    assert stats.chisquare(counts).pvalue > 1e-3
    hit, salt = Draws(4).flips((100_000,), 0.17)
    assert abs(hit.mean() - 0.17) < 4 * np.sqrt(0.17 * 0.83 / 1e5)
    assert abs(salt[hit].mean() - 0.5) < 4 * 0.5 / np.sqrt(hit.sum())


def test_a_stream_goes_on() -> None:
    """No number is drawn twice, and different keys have different numbers."""
    draws = Draws(9)
    parts = [draws.words((7,)), draws.words((2, 3)).ravel(), draws.words((1,))]
    assert len(set(np.concatenate(parts).tolist())) == 14
    assert len({int(Draws(key).words((1,))[0]) for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 6, 3)])
def test_tensors_draw_the_same_numbers(shape: tuple[int, ...]) -> None:
    for kind in ("words", "uniform", "normal"):
        streams = [Draws(key) for key in KEYS]
        together = TensorDraws(KEYS, torch.device("cpu"))
        for _ in range(2):
            alone = np.stack([getattr(stream, kind)(shape) for stream in streams])
            assert np.allclose(getattr(together, kind)(shape).numpy(), alone, rtol=1e-5, atol=1e-6), kind
    assert np.array_equal(
        TensorDraws(KEYS, torch.device("cpu")).integers(-3, 3, shape).numpy(),
        np.stack([Draws(key).integers(-3, 3, shape) for key in KEYS]),
    )


@pytest.mark.parametrize("rate", [*IMAGENET["shot_noise"], *CIFAR["shot_noise"]])
def test_tensors_draw_the_same_counts(rate: int) -> None:
    """Their tables of thresholds and aliases are apart, ours are packed into one. Many photons need 16 bits."""
    values = np.random.default_rng(0).integers(0, 256, (150, 151, 3)).astype(np.uint8)
    values[:20], values[20:40] = 0, 255
    together = TensorDraws(KEYS[:1], torch.device("cpu")).poisson(torch.from_numpy(values)[None], rate)[0]
    assert np.array_equal(together, Draws(KEYS[0]).poisson(values, rate))


@pytest.mark.parametrize("count", [1, 2, 199, 200, 201, 1001])
def test_numbers_do_not_depend_on_the_blocks_they_are_made_in(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    def numbers() -> list[np.ndarray]:
        stream, values = Draws(KEYS[3]), np.arange(count).astype(np.uint8)
        return [
            stream.normal((count,)), stream.words((count,)), stream.uniform((count,)), stream.integers(-4, 4, (count,)),
            stream.poisson(values, 12), stream.words((3,)),
        ]  # fmt: skip

    whole = numbers()
    monkeypatch.setattr("nsbench.corruptions.draws.BLOCK", 100)
    (first, *others), (first_in_blocks, *others_in_blocks) = whole, numbers()
    np.testing.assert_array_almost_equal_nulp(first, first_in_blocks, 2)
    for one, other in zip(others, others_in_blocks, strict=True):
        assert np.array_equal(one, other)
