"""Seeds, averages, and what stands beside the figures of a table."""

import boards
import made
import numpy as np
import pytest
from boards import CONDITIONS_OF_C, SUITES, N, flags, only_table, outcomes, place, row_of, store
from scipy.stats import t

from nsbench.leaderboard import BETTER, NOT_SEPARABLE, build, compare
from nsbench.leaderboard.pairs import suite_pvalues
from nsbench.report.tables.latex import to_latex
from nsbench.report.tables.text import to_markdown
from nsbench.results import read_results, write_result
from nsbench.statistics import ALEXNET_ERROR, Trained
from nsbench.statistics.corruption_error import mean_corruption_error


def test_several_seeds_are_tested_over_images_and_trainings(tmp_path):
    for seed in (0, 1, 2):
        store(tmp_path, "a", "clean", flags(0.55, seed), seed=seed)
        store(tmp_path, "b", "clean", flags(0.75, 10 + seed), seed=seed)
    table = only_table(tmp_path)
    cell = row_of(table, "a").cells["clean"]
    assert cell.seeds == (0, 1, 2)
    assert cell.low < cell.value < cell.high
    assert cell.deviation == pytest.approx(np.std([r.score.value for r in cell.results], ddof=1))
    p, _ = table.pairs["clean"].at(0, 1)
    seeds = [[100 * flags(share, start + s) / N for s in range(3)] for share, start in ((0.55, 0), (0.75, 10))]
    expected = Trained.of([[np.array(mine)] for mine in seeds])
    assert p == pytest.approx(expected.pvalues()[0, 1])
    assert (cell.low, cell.high) == pytest.approx(expected.accuracy_interval(0))
    (delta,) = [one.delta for one in compare(table, "a", "b")]
    assert (delta.low, delta.high) == pytest.approx(expected.difference(0, 1, accuracy=True))
    assert (delta.test, delta.of_weights) == ("images and trainings", False)


def test_a_row_trained_once_speaks_of_its_weights_and_an_untouched_one_needs_no_second_seed(tmp_path):
    for seed in (0, 1, 2):
        store(tmp_path, "several", "clean", flags(0.55, seed), seed=seed, recipe=made.recipe(seed=seed))
    store(tmp_path, "once", "clean", flags(0.75, 10))
    store(tmp_path, "pretrained", "clean", flags(0.7, 20), recipe=None)
    table = only_table(tmp_path)
    assert {row.method: row.cells["clean"].of_weights for row in table.rows} == {
        "several": False,
        "once": True,
        "pretrained": False,
    }
    deltas = {pair: compare(table, *pair)[0].delta for pair in (("several", "once"), ("several", "pretrained"))}
    one, other = deltas["several", "once"], deltas["several", "pretrained"]
    assert (one.test, one.of_weights) == ("paired, over seeds", True)
    assert (other.test, other.of_weights) == ("images and trainings", False)
    seeds = [np.array([100 * flags(0.55, seed) / N for seed in range(3)]), 100 * flags(0.7, 20)[None] / N]
    p, _ = table.pairs["clean"].at(place(table, "several"), place(table, "pretrained"))
    assert p == pytest.approx(Trained.of([[mine] for mine in seeds]).pvalues()[0, 1])


def test_trainings_that_differ_more_than_methods_separate_none(tmp_path):
    """The means over seeds differ in one direction on every image on which they differ: images alone make it certain."""
    for method, shares in (("finetune", (0.4, 0.6)), ("ns", (0.5, 0.7))):
        for seed, share in enumerate(shares):
            store(tmp_path, method, "clean", np.arange(N) < share * N, seed=seed, recipe=made.recipe(seed=seed))
    table = only_table(tmp_path)
    delta = row_of(table, "ns").cells["clean"].delta
    assert (delta.value, delta.verdict) == (pytest.approx(10), NOT_SEPARABLE)
    assert delta.low < -30
    assert delta.high > 50
    assert (
        suite_pvalues(table.evidence.suites["clean"].matrix([0, 1]), np.zeros(2, bool), np.ones(2, bool))[0, 1] < 0.01
    )


def test_more_seeds_move_no_name_and_widen_the_interval(tmp_path):
    for method in ("finetune", "ns"):
        store(tmp_path, method, "clean", flags(0.6, 1))
    one = only_table(tmp_path, reference="finetune")
    for seed, share in ((1, 0.5), (2, 0.7)):
        store(tmp_path, "ns", "clean", flags(share, 20 + seed), seed=seed, recipe=made.recipe(seed=seed))
    table = only_table(tmp_path, reference="finetune")
    assert sorted(r.label for r in table.rows) == sorted(r.label for r in one.rows) == ["finetune", "ns"]
    cell = row_of(table, "ns").cells["clean"]
    values = [r.score.value for r in cell.results]
    assert (cell.value, cell.deviation) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert max(values) - min(values) > 15
    assert cell.high - cell.low > 2 * 4.3 * cell.deviation / 3**0.5 * 0.85  # Student's over three seeds, and the images
    assert cell.delta.test == "paired, over seeds"  # the control was trained once
    text = to_markdown(build(*read_results(tmp_path)))
    assert f"±{(cell.high - cell.low) / 2:.1f} σ {cell.deviation:.1f}" in text
    assert "σ is the standard deviation over seeds" in text
    assert r"$\sigma$" in to_latex(build(*read_results(tmp_path)))


def test_the_interval_of_mce_is_over_images_and_trainings(tmp_path):
    factor = 100 * np.mean([1 / error for error in ALEXNET_ERROR.values()])
    right = {
        method: [flags(share, 30 * k + seed) for seed in (0, 1)]
        for k, (method, share) in enumerate((("a", 0.5), ("b", 0.6)))
    }
    for method, seeds in right.items():
        for seed, mine in enumerate(seeds):
            store(tmp_path, method, "imagenet_c", mine, seed=seed)
    table = only_table(tmp_path)
    for method, seeds in right.items():
        cell = row_of(table, method).cells["imagenet_c"]
        errors = factor * (1 - np.mean(seeds, axis=0))
        assert cell.value == pytest.approx(errors.mean())
        values = factor * (1 - np.mean(seeds, axis=1))
        least = t.ppf(0.975, 1) * np.std(values, ddof=1) / 2**0.5
        assert cell.high - cell.low > 2 * 1.9 * errors.std() / np.sqrt(N)  # as wide as that of images alone, at least
        assert cell.value - cell.low == pytest.approx(cell.high - cell.value)
        expected = Trained.of([[factor * (1 - np.array(seeds)) / N]]).interval(0)
        assert (cell.low, cell.high) == pytest.approx(expected)
        assert cell.value - cell.low > 0.5 * least


def test_the_average_is_bootstrapped_together_over_shared_images(tmp_path):
    """Eleven suites with the same right images: those on the validation images move together, the rest apart."""
    for method, shift in (("finetune", 0), ("ns", 30)):
        for index, suite in enumerate(SUITES):
            shared = suite not in ("imagenet_a", "imagenet_v2", "imagenet_r", "imagenet_sketch")
            right = flags(0.5, 0 if shared else index)
            right[np.flatnonzero(~right)[:shift]] = True
            store(tmp_path, method, suite, right)
    table = only_table(tmp_path)
    control = row_of(table, "finetune")
    plain = [control.cells[s].value for s in SUITES if s != "imagenet_c"]
    assert control.average.value == pytest.approx((sum(plain) + 100 - control.cells["imagenet_c"].value) / 11)
    factor = np.mean([1 / error for error in ALEXNET_ERROR.values()])
    expected = 100 * 0.5 / np.sqrt(N) * np.hypot(6 + factor, 2) / 11  # seven suites go together, four apart
    assert control.average.high - control.average.low == pytest.approx(2 * 1.96 * expected, rel=0.08)
    delta = row_of(table, "ns").average.delta
    assert delta.verdict == BETTER
    assert delta.test == "paired bootstrap"
    assert delta.low < delta.value < delta.high
    assert table.average_neighbours == (1, 1)
    assert table.rows[0].rank == (1, 1)


def test_a_partial_average_is_over_what_all_rows_have_and_only_on_request(tmp_path):
    for suite in SUITES:
        store(tmp_path, "a", suite, flags(0.5, 0))
    for suite in ("clean", "cw", "imagenet_c"):
        store(tmp_path, "b", suite, flags(0.7, 1))
    assert only_table(tmp_path).partial_suites == ()
    table = only_table(tmp_path, partial=True)
    assert table.partial_suites == ("clean", "cw", "imagenet_c")
    b = row_of(table, "b")
    assert b.average is None
    values = [b.cells[suite].value for suite in ("clean", "cw", "imagenet_c")]
    assert b.partial.value == pytest.approx((values[0] + values[1] + 100 - values[2]) / 3)
    assert b.rank is not None
    assert row_of(table, "a").average is not None


def test_effective_robustness_is_the_distance_from_the_line(tmp_path):
    for index, (clean, shifted) in enumerate([(0.3, 0.1), (0.5, 0.25), (0.7, 0.45), (0.6, 0.55)]):
        for suite, share in (("clean", clean), ("imagenet_r", shifted)):
            store(tmp_path, f"m{index}", suite, np.arange(N) < round(share * N))
    table = only_table(tmp_path)
    (line,) = table.lines
    assert line.suite == "imagenet_r"
    x = [np.log(c / (1 - c)) for c in (0.3, 0.5, 0.7, 0.6)]
    y = [np.log(s / (1 - s)) for s in (0.1, 0.25, 0.45, 0.55)]
    slope, intercept = np.polyfit(x, y, 1)
    assert (line.slope, line.intercept) == (pytest.approx(slope), pytest.approx(intercept))
    beyond = row_of(table, "m3").effective["imagenet_r"]
    assert beyond == pytest.approx(55 - 100 / (1 + np.exp(-(intercept + slope * x[3]))))
    assert beyond > 5


def test_accuracy_under_corruption_is_that_of_the_plain_mean_error(tmp_path):
    for index, share in enumerate((0.3, 0.5, 0.7)):
        store(tmp_path, f"m{index}", "clean", np.arange(N) < round(share * N))
        measured = {name: outcomes(flags(share, 7 * k)) for k, name in enumerate(CONDITIONS_OF_C)}
        conditions = tuple(
            boards.condition("imagenet_c", one, name, split=f"c/{name}") for name, one in measured.items()
        )
        changes = {"score": mean_corruption_error(measured), "conditions": conditions, "recipe": made.recipe()}
        write_result(
            tmp_path, boards.result(f"m{index}", "imagenet_c", model="vit", parent_digest="vit", **changes), measured
        )
    table = only_table(tmp_path)
    (line,) = table.lines
    for label, _, shifted in line.points:
        score = row_of(table, label).cells["imagenet_c"].results[0].score
        assert shifted == pytest.approx(100 - score.extra["mean error"], abs=1e-9)
        assert abs(shifted - (100 - score.value)) > 1  # mCE is another figure


def test_critical_difference_and_cost(tmp_path):
    for index, method in enumerate("abc"):
        for suite in ("clean", "fgsm", "cw", "imagenet_c"):
            store(tmp_path, method, suite, np.arange(N) < round(N * (0.3 + 0.2 * index)))
    table = only_table(tmp_path)
    assert table.critical.labels == ("c", "b", "a")
    assert table.critical.ranks == (1, 2, 3)  # less mCE counts as better
    assert table.critical.difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 4)), abs=0.002)
    assert table.critical.cliques == ((0, 1), (1, 2))
    cost = table.rows[0].cost
    assert (cost.fit_seconds, cost.evaluation_seconds, cost.peak_memory_mib) == (10, 8, 100)
    assert cost.forward_equivalents is None


def test_four_images_in_one_direction_settle_nothing_however_close_the_trainings_lie(tmp_path):
    """Nine and thirteen right of 200 in every training: no spread over seeds, and a sign test of four images."""
    for method, right in (("finetune", 13), ("ns", 9)):
        for seed in (0, 1, 2, 3):
            store(tmp_path, method, "clean", np.arange(N) < right, seed=seed, recipe=made.recipe(seed=seed))
    table = only_table(tmp_path)
    p, _ = table.pairs["clean"].at(0, 1)
    assert p == pytest.approx(2 / 2**4)
    delta = row_of(table, "ns").cells["clean"].delta
    assert delta.verdict == NOT_SEPARABLE
    assert delta.low < -2 < 0 < delta.high
