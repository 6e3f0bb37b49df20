"""Images and trainings both drawn: known limits, an analysis of variance of another library, error rates."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.special import ndtr
from statsmodels.formula.api import ols

from nsbench.statistics import Trained, difference_interval, paired_pvalues, wilson
from nsbench.statistics.trainings import _averaged_pvalues


def drawn(rng, trainings, images, interaction, shape):
    """(rows, S, n) from the two-way random model, normal."""
    rows, seeds, n = shape
    return (
        trainings * rng.standard_normal((rows, seeds, 1))
        + images * rng.standard_normal((rows, 1, n))
        + interaction * rng.standard_normal(shape)
    )


def trained(values):
    return Trained.of([[row / row.shape[1]] for row in values])


def test_trainings_alone_give_welchs_test():
    values = drawn(np.random.default_rng(0), 1, 0, 0, (2, 4, 50))
    values[1] *= 3
    found = trained(values)
    first, second = values[:, :, 0]
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert found.pvalues()[0, 1] == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval()
    assert found.difference(0, 1) == pytest.approx((interval.low, interval.high))
    own = stats.ttest_1samp(first, 0).confidence_interval()
    assert found.interval(0) == pytest.approx((own.low, own.high))


def test_images_alone_give_the_paired_test():
    """One training each, and several that agree on every image."""
    values = drawn(np.random.default_rng(1), 0, 1, 0, (2, 1, 80))
    for repeats in (1, 3):
        found = trained(np.repeat(values, repeats, axis=1))
        expected = stats.ttest_rel(*values[:, 0])
        assert found.pvalues()[0, 1] == pytest.approx(expected.pvalue, rel=1e-9)
        interval = expected.confidence_interval()
        assert found.difference(0, 1) == pytest.approx((interval.low, interval.high))
        assert found.pvalues() == pytest.approx(paired_pvalues([values[:, 0] / 80]))


@pytest.mark.parametrize(("between", "is_larger"), [(0.3, True), (0.0, False)])
def test_the_parts_are_those_of_an_analysis_of_variance(between, is_larger):
    values = drawn(np.random.default_rng(2), between, 1, 0.8, (1, 4, 30))[0]
    seed, image = np.indices(values.shape)
    table = sm.stats.anova_lm(
        ols(
            "y ~ C(seed) + C(image)", pd.DataFrame({"y": values.ravel(), "seed": seed.ravel(), "image": image.ravel()})
        ).fit()
    )
    squares = table["sum_sq"] / table["df"]
    assert (squares["C(seed)"] > squares["Residual"]) == is_larger
    found = trained(values[None])
    assert found.observed[0] == pytest.approx(squares["C(seed)"] / values.size)
    assert found.between[0] == pytest.approx(max(squares["C(seed)"], squares["Residual"]) / values.size)
    assert found.interaction[0] == pytest.approx(squares["Residual"] / values.size)
    image = np.var(values.mean(axis=0), ddof=1) / 30
    assert image == pytest.approx(squares["C(image)"] / values.size)
    total = found.between[0] + image - found.interaction[0]
    assert total >= image * (1 - 1e-12)
    freedom = total**2 / (found.observed[0] ** 2 / 3 + (image - found.interaction[0]) ** 2 / 29)
    low, high = found.interval(0)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, freedom) * total**0.5)


@pytest.mark.parametrize("freedom", [1.0, 2.0, 4.0, 7.3, 18.0])
def test_the_averaged_test_between_its_limits(freedom):
    difference = np.array([0.02, 0.5, 2, 5, 7])
    one = np.ones(5)
    student = _averaged_pvalues(difference, 0 * one, one, one, freedom * one)
    assert student == pytest.approx(2 * stats.t.sf(difference, freedom), rel=1e-6)
    normal = _averaged_pvalues(difference, one, 1e9 * one, 0 * one, freedom * one)
    assert normal == pytest.approx(2 * stats.norm.sf(difference), rel=1e-6)


def test_the_averaged_test_is_the_integral_that_it_says():
    """By drawing the variance between trainings, 2,000,000 times."""
    rng = np.random.default_rng(3)
    variance = 0.7 + 0.4 * 3 / rng.chisquare(3, 2_000_000)
    for difference in (0.5, 2.0, 5.0):
        (found,) = _averaged_pvalues(*(np.array([v]) for v in (difference, 0.7, 1e9, 0.4, 3.0)))
        assert found == pytest.approx(np.mean(2 * ndtr(-difference / np.sqrt(variance))), rel=0.02)


def test_rows_that_agree_are_equal_and_no_p_value_is_beyond_what_so_few_images_can_give():
    right = 100.0 * (np.arange(20) < 12)
    assert (trained([np.array([right] * 3)] * 2).pvalues() == 1).all()
    apart = trained([np.full((3, 20), 100.0), np.zeros((3, 20))])
    assert apart.pvalues()[0, 1] == 2.0**-19


def test_an_accuracy_of_one_training_has_wilsons_interval():
    rng = np.random.default_rng(4)
    right = 100.0 * (rng.random((1, 400)) < 0.4)
    low, high = trained([right]).accuracy_interval(0)
    # Student's quantile with 399 degrees of freedom and n - 1: a little wider
    assert (low, high) == pytest.approx(tuple(100 * w for w in wilson(right.sum() / 100, 400)), rel=0.01)
    assert trained([np.full((3, 20), 100.0)]).accuracy_interval(0) == pytest.approx((100 * wilson(20, 20)[0], 100))
    low, high = trained([100.0 * (rng.random((4, 500)) < 0.4)]).accuracy_interval(0)
    assert 0 < low < high < 100


# --- simulation: data sets with a known truth -------------------------------------------------------------------------

DRAWS = 1000
TWO_ERRORS = 2 * (0.05 * 0.95 / DRAWS) ** 0.5  # of the simulation


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("trainings", [0.0, 0.05, 0.15, 0.3])
def test_coverage_and_false_claims(trainings, seeds):
    """Images give a standard error of 0.1: trainings go from nothing to most of it."""
    rng = np.random.default_rng([seeds, int(100 * trainings)])
    covered, claims, images_alone = np.zeros(2), 0, 0
    for _ in range(DRAWS):
        rows = trained(drawn(rng, trainings, 1, 1, (2, seeds, 100)))
        covered += [low <= 0 <= high for low, high in (rows.interval(0), rows.difference(0, 1))]
        claims += rows.pvalues()[0, 1] <= 0.05
        images_alone += paired_pvalues(rows.means)[0, 1] <= 0.05
    assert (covered / DRAWS >= 0.93 - TWO_ERRORS).all()
    assert (covered / DRAWS <= 0.97 + TWO_ERRORS).all()
    assert claims / DRAWS <= 0.05 + TWO_ERRORS
    if trainings == 0.3 and seeds == 3:
        assert images_alone / DRAWS > 0.2  # the fault that this is against


def test_far_in_the_tail_no_claim_is_too_sure():
    """Where Holm's correction looks: p below 0.001 in at most one of 1,000 equal pairs, at any share of trainings."""
    rng = np.random.default_rng(5)
    for share in (0.0, 0.1, 0.3, 1.0, 3.0):  # variance of images, that between trainings being 1
        between = rng.chisquare(2, (2, 100_000)) / 2 / 2
        difference = np.abs(rng.standard_normal(100_000)) * (1 + share) ** 0.5
        freedom = between.sum(axis=0) ** 2 / (between**2 / 2).sum(axis=0)
        images = np.full(100_000, share)
        p = _averaged_pvalues(difference, images, np.full(100_000, 1e9), between.sum(axis=0), freedom)
        assert (p <= 0.001).mean() <= 0.001


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_rows_that_agree_on_every_image_have_the_interval_of_one_training(n):
    """That of Bonett and Price with no image that differs: three equal trainings are no less sure of it."""
    right = np.arange(n) < n // 2
    found = trained(100.0 * np.repeat(right[None, None], 6, axis=1).reshape(2, 3, n))
    low, high = found.difference(0, 1, accuracy=True)
    expected_low, expected_high = difference_interval(0, 0, n)
    assert (low, high) == pytest.approx((100 * expected_low, 100 * expected_high), rel=0.3)


def test_a_difference_of_accuracies_is_no_larger_than_a_hundred():
    right = np.ones((3, 9)) * 100.0
    low, high = trained([right, 0 * right]).difference(0, 1, accuracy=True)
    assert 0 < low < high == 100.0


def test_many_trainings_give_the_normal_test_with_each_part_once():
    """The spread over images holds the interaction as well: taken twice, p would be larger."""
    values = drawn(np.random.default_rng(7), 0.05, 0.1, 3, (2, 400, 60))
    values[1] += 0.05
    parts = []
    for row in values:
        rest = row - row.mean(axis=0) - row.mean(axis=1, keepdims=True) + row.mean()
        interaction = (rest**2).sum() / (399 * 59) / row.size
        parts.append((max(np.var(row.mean(axis=1), ddof=1) / 400, interaction), interaction))
    image = np.var(values[0].mean(axis=0) - values[1].mean(axis=0), ddof=1) / 60
    (one, held), (other, also_held) = parts
    assert held + also_held > 0.3 * image
    variance = one + other + max(image - held - also_held, 0)
    expected = 2 * ndtr(-abs(values[0].mean() - values[1].mean()) / variance**0.5)
    assert 1e-6 < expected < 0.5
    assert trained(values).pvalues()[0, 1] == pytest.approx(expected, rel=0.1)
