"""mCE and relative mCE by hand, tables, and partial runs that never pass for mCE."""

from __future__ import annotations

import numpy as np
import pytest

from nsbench.errors import DataError
from nsbench.statistics import ALEXNET_ERROR, SEVERITIES
from nsbench.statistics.corruption_error import (
    ALEXNET_CLEAN_ERROR,
    FIFTEEN,
    corruption_errors,
    mean_corruption_error,
)
from nsbench.types import Outcomes


def outcomes(wrong: np.ndarray) -> Outcomes:
    n = len(wrong)
    ids = np.array([f"n0/{k:05d}" for k in range(n)])
    return Outcomes(ids, np.zeros(n, np.int64), np.asarray(wrong).astype(np.int64))


def share(fraction: float, n: int) -> np.ndarray:
    return np.arange(n) < round(fraction * n)


def all_conditions(wrong_of) -> dict[str, Outcomes]:
    return {f"{c}/{s}": outcomes(wrong_of(c, s)) for c in FIFTEEN for s in SEVERITIES}


def test_alexnet_s_clean_error_is_that_of_torchvision_s_weights() -> None:
    from torchvision.models import AlexNet_Weights

    accuracy = AlexNet_Weights.IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert pytest.approx(1 - accuracy / 100) == ALEXNET_CLEAN_ERROR


def test_alexnet_itself_has_100_and_100() -> None:
    n = 50_000
    found = corruption_errors(
        all_conditions(lambda c, s: share(ALEXNET_ERROR[c], n)), outcomes(share(ALEXNET_CLEAN_ERROR, n))
    )
    assert found.mce is not None
    assert found.relative_mce is not None
    assert found.mce.value == pytest.approx(100, abs=0.01)
    assert found.relative_mce.value == pytest.approx(100, abs=0.01)
    assert all(ce == pytest.approx(100, abs=0.01) for ce in found.corruption_error.values())
    assert found.label == "mCE"


def test_by_hand() -> None:
    """Of 4 images, fog fools 1, 2, 2, 3, 4; everything else fools 1 always; clean fools 1."""
    fog = dict(zip(SEVERITIES, (1, 2, 2, 3, 4), strict=True))
    found = corruption_errors(
        all_conditions(lambda c, s: np.arange(4) < (fog[s] if c == "fog" else 1)), outcomes(np.arange(4) < 1)
    )
    assert found.clean_error == 25
    assert found.per_corruption == {c: pytest.approx(60 if c == "fog" else 25) for c in FIFTEEN}
    assert found.per_severity == {s: pytest.approx((14 * 25 + 25 * fog[s]) / 15) for s in SEVERITIES}
    assert found.mean_error.value == pytest.approx((14 * 25 + 60) / 15)
    ratios = [(0.6 if c == "fog" else 0.25) / ALEXNET_ERROR[c] for c in FIFTEEN]
    assert found.mce is not None
    assert found.mce.value == pytest.approx(100 * np.mean(ratios))
    relative = 100 * (0.6 - 0.25) / (ALEXNET_ERROR["fog"] - ALEXNET_CLEAN_ERROR) / 15
    assert found.relative_mce is not None
    assert found.relative_mce.value == pytest.approx(relative)
    assert found.headline.extra["relative mCE"] == pytest.approx(relative)
    assert "partial" not in found.headline.extra


def test_a_part_is_labelled_and_has_no_mce() -> None:
    parts = {f"{c}/{s}": outcomes(share(0.5, 8)) for c in ("fog", "snow") for s in (1, 3)}
    found = corruption_errors(parts, outcomes(share(0.25, 8)))
    assert found.mce is None
    assert found.relative_mce is None
    assert not found.complete
    assert found.label == "mean error, partial: 4 of 75 conditions"
    assert found.headline.value == 50
    assert found.headline.extra["partial"] == 1
    assert found.corruptions == ("snow", "fog"), "the usual order, whatever was asked first"
    assert np.isnan(found.errors_CS[0, 1])
    assert found.corruption_error == {}, "a CE needs all five severities"
    assert not any("mCE" in line for line in found.lines())
    with pytest.raises(DataError, match=r"mCE needs all 75 .* 71 missing: gaussian_noise/1"):
        mean_corruption_error(parts)


def test_one_missing_condition_is_enough_to_be_partial() -> None:
    conditions = all_conditions(lambda c, s: share(0.5, 4))
    del conditions["fog/5"]
    found = corruption_errors(conditions)
    assert found.label == "mean error, partial: 74 of 75 conditions"
    assert "fog" not in found.corruption_error


def test_extra_corruptions_stand_in_the_table_and_not_in_mce() -> None:
    conditions = all_conditions(lambda c, s: share(0.5, 4))
    plain = corruption_errors(conditions)
    conditions |= {f"spatter/{s}": outcomes(share(1, 4)) for s in SEVERITIES}
    found = corruption_errors(conditions)
    assert found.mce == plain.mce
    assert found.mean_error == plain.mean_error
    assert found.per_severity == plain.per_severity
    assert found.per_corruption["spatter"] == 100
    assert "spatter" not in found.corruption_error
    alone = corruption_errors({"spatter/1": outcomes(share(1, 4))})
    assert alone.label == "mean error, partial: 0 of 75 conditions"


def test_clean_outcomes_are_matched_by_image() -> None:
    """They may be of more images, in any order."""
    conditions = all_conditions(lambda c, s: np.arange(4) < 2)
    clean = outcomes(np.array([1, 0, 0, 1, 1, 1, 1, 1]))
    shuffled = np.random.default_rng(1).permutation(8)
    clean = Outcomes(clean.ids[shuffled], clean.labels[shuffled], clean.predictions[shuffled])
    assert corruption_errors(conditions, clean).clean_error == 50
    with pytest.raises(DataError, match=r"1 of 4 are missing, such as n0/00003"):
        corruption_errors(conditions, outcomes(np.zeros(3)))


def test_one_image_with_two_labels_is_not_one_image() -> None:
    """Counters as names, in two sets that were counted differently, would pair what has nothing in common."""
    conditions = all_conditions(lambda c, s: np.arange(4) < 2)
    clean = outcomes(np.zeros(4))
    with pytest.raises(DataError, match=r"n0/00000 has another label among the clean ones"):
        corruption_errors(conditions, Outcomes(clean.ids, clean.labels + 1, clean.predictions))
    fog = conditions["fog/3"]
    with pytest.raises(DataError, match=r"n0/00000 has another label in fog/3 than in gaussian_noise/1"):
        corruption_errors(conditions | {"fog/3": Outcomes(fog.ids, fog.labels + 1, fog.predictions)})


def test_lines_show_what_is_absent_as_a_dash() -> None:
    lines = corruption_errors({"fog/2": outcomes(share(0.25, 4))}).lines()
    assert lines[1].split() == ["fog", "-", "25.0", "-", "-", "-", "25.0", "-"]
    assert lines[-1].startswith("mean error, partial: 1 of 75 conditions: 25.00 [")


def test_wrong_use() -> None:
    with pytest.raises(DataError, match="no condition"):
        corruption_errors({})
    for name in ("clean", "fog", "fog/6", "/3"):
        with pytest.raises(DataError, match=f"'{name}' is not"):
            corruption_errors({name: outcomes(share(0.5, 4))})
    with pytest.raises(DataError, match="the same images"):
        corruption_errors({"fog/1": outcomes(share(0.5, 4)), "fog/2": outcomes(share(0.5, 5))})
    with pytest.raises(DataError, match="no images"):
        corruption_errors({"fog/1": outcomes(np.zeros(0))})


def test_a_few_images_that_are_all_right_leave_room_for_errors() -> None:
    found = corruption_errors(all_conditions(lambda c, s: np.zeros(20, bool)), outcomes(np.zeros(20, bool)))
    assert found.mce is not None
    assert found.relative_mce is not None
    assert (found.mce.value, found.mce.low) == (0, 0)
    one_wrong = corruption_errors(all_conditions(lambda c, s: np.arange(20) < 1)).mce
    assert one_wrong is not None
    assert one_wrong.value < found.mce.high < 5 * one_wrong.value  # Wilson: up to 3.2 of 20 images
    assert found.relative_mce.low < 0 < found.relative_mce.high
