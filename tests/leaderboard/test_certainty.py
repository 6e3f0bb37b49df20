"""Averages and mCE of images that are all alike: as uncertain as few images are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from boards import SUITES, only_table, row_of, store

from nsbench.statistics import ALEXNET_ERROR, wilson

FEW = 20


def stored(folder: Path, seeds: tuple[int, ...], wrong: dict[str, int], n: int = FEW) -> None:
    """All eleven suites of one method, of `n` images each; of a suite so many wrong, the others' all right."""
    for seed in seeds:
        for suite in SUITES:
            store(folder, "ns", suite, np.arange(n) >= wrong.get(suite, 0), seed=seed)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize("wrong", [{}, {"clean": 2}])
def test_suites_whose_images_are_all_right_make_no_average_certain(
    tmp_path: Path, seeds: tuple[int, ...], wrong: dict[str, int]
) -> None:
    stored(tmp_path, seeds, wrong)
    row = row_of(only_table(tmp_path), "ns")
    assert row.average is not None
    wide = 100 - 100 * wilson(FEW, FEW)[0]
    # less than one suite's, since sets that are drawn apart add in quadrature
    assert 0.3 * wide < row.average.value - row.average.low < wide
    assert row.average.value <= row.average.high <= 100
    assert row.cells["imagenet_c"].high > 15


def test_other_averages_stay_as_they_are(tmp_path: Path) -> None:
    """Of the resampled images alone."""
    stored(tmp_path, (0,), dict.fromkeys(SUITES, 1))
    table = only_table(tmp_path)
    average, sums = row_of(table, "ns").average, table.evidence.sums[0]
    assert (average.low, average.high) == pytest.approx(np.percentile(sums, [2.5, 97.5]), abs=1e-3)


def test_an_average_covers_what_it_is_of(tmp_path: Path) -> None:
    """All suites of 99.9 %, of 20 images each: in most samples no image is wrong."""
    covered, rounds = 0, 20
    rng = np.random.default_rng(0)
    error = 100 * np.mean([1 / one for one in ALEXNET_ERROR.values()])  # mCE of a model that is never right
    truth = (10 * 99.9 + 100 - 0.001 * error) / 11
    for k in range(rounds):
        for suite in SUITES:
            store(tmp_path / str(k), "ns", suite, rng.random(FEW) < 0.999)
        average = row_of(only_table(tmp_path / str(k)), "ns").average
        assert average is not None
        covered += average.low <= truth <= average.high
    assert covered >= 0.9 * rounds
