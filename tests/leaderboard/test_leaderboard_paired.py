"""The leaderboard on stored per-image outcomes: pairing by id, tests, deltas, and what cannot be paired."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import boards
import made
import numpy as np
import pytest
from boards import N, flags, only_table, outcomes, place, row_of, store
from scipy.stats import norm

import nsbench as nb
from nsbench.errors import UsageError
from nsbench.leaderboard import AVERAGE, BETTER, NOT_SEPARABLE, WORSE, compare, deltas
from nsbench.leaderboard.outcomes import Reader
from nsbench.results import read_outcomes, read_results, write_result
from nsbench.statistics import ALEXNET_ERROR, mcnemar_exact, resampled_sums
from nsbench.types import Composition, Score

FROZEN = Path(__file__).parents[1] / "frozen" / "schema1_first"


def test_pairing_is_by_id_and_the_test_is_mcnemars(tmp_path):
    a, b = flags(0.6, 0), flags(0.6, 0)
    b[np.flatnonzero(b)[:9]] = False
    store(tmp_path, "a", "clean", a)
    store(tmp_path, "b", "clean", b, order=np.random.default_rng(1).permutation(N))
    table = only_table(tmp_path)
    p, adjusted = table.pairs["clean"].at(place(table, "a"), place(table, "b"))
    assert p == pytest.approx(mcnemar_exact(a, b)) == pytest.approx(2 / 2**9)
    assert adjusted == p  # one test in the table
    best, other = row_of(table, "a").cells["clean"], row_of(table, "b").cells["clean"]
    assert (best.best, best.rank, other.tied, other.rank) == (True, (1, 1), False, (2, 2))
    assert other.low < best.value < other.high  # the intervals overlap, and pairing tells the two apart all the same
    assert table.columns[0].neighbours == (1, 1)


def test_correction_is_over_the_whole_table(tmp_path):
    for suite in ("clean", "fgsm", "cw"):
        for index, method in enumerate("abc"):
            right = flags(0.6, 0)
            right[np.flatnonzero(right)[: 7 * index]] = False
            store(tmp_path, method, suite, right)
    table = only_table(tmp_path)
    pairs = table.pairs["fgsm"]
    p, adjusted = pairs.at(place(table, "a"), place(table, "b"))
    assert p == pytest.approx(2 / 2**7)
    assert adjusted == pytest.approx(6 * p)  # of nine tests three are smaller; these six are equal
    assert not pairs.separable()[place(table, "a"), place(table, "b")]
    assert pairs.separable()[place(table, "a"), place(table, "c")]
    assert [row_of(table, m).cells["fgsm"].rank for m in "abc"] == [(1, 2), (1, 3), (2, 3)]


def test_deltas_are_against_the_matched_control(tmp_path):
    base = flags(0.5, 3)
    better, worse = base.copy(), base.copy()
    better[np.flatnonzero(~base)[:20]] = True
    worse[np.flatnonzero(base)[:20]] = False
    for model in ("vit", "deit"):
        store(tmp_path, "finetune", "clean", base, model=model)
    store(tmp_path, "ns", "clean", better)
    store(tmp_path, "madry", "clean", worse, model="deit")
    store(tmp_path, "pretrained", "clean", base)
    store(tmp_path, "other", "clean", better, recipe=made.recipe("long"))
    table = only_table(tmp_path)
    cells = {one.method + one.model: one.cells["clean"] for one in table.rows}
    assert cells["finetunevit"].delta is None
    assert cells["othervit"].delta is None  # another recipe has no matched control here
    gain = cells["nsvit"].delta
    assert (gain.value, gain.verdict, gain.test) == (pytest.approx(10), BETTER, "McNemar, exact")
    assert 0 < gain.low < 10 < gain.high + 1
    assert gain.reference == "finetune · vit · recipe quick"
    assert cells["madrydeit"].delta.verdict == WORSE
    assert cells["madrydeit"].delta.reference == "finetune · deit · recipe quick"
    assert (cells["pretrainedvit"].delta.value, cells["pretrainedvit"].delta.verdict) == (0, NOT_SEPARABLE)


def test_a_reference_can_be_chosen_and_a_wrong_one_names_the_rows(tmp_path):
    store(tmp_path, "a", "clean", flags(0.6, 0))
    store(tmp_path, "b", "clean", flags(0.4, 1))
    table = only_table(tmp_path, reference="b")
    assert row_of(table, "b").cells["clean"].delta is None
    assert row_of(table, "a").cells["clean"].delta.reference == "b"
    with pytest.raises(UsageError, match="'c' is no row of this table; choose one of: a, b"):
        only_table(tmp_path, reference="c")


def test_lower_mce_is_better_and_its_difference_is_paired(tmp_path):
    base = flags(0.5, 4)
    more = base.copy()
    more[np.flatnonzero(~base)[:10]] = True
    store(tmp_path, "finetune", "imagenet_c", base)
    store(tmp_path, "ns", "imagenet_c", more)
    table = only_table(tmp_path)
    delta = row_of(table, "ns").cells["imagenet_c"].delta
    factor = 100 * np.mean([1 / error for error in ALEXNET_ERROR.values()])
    assert delta.value == pytest.approx(-factor * 10 / N)
    assert (delta.verdict, delta.test) == (BETTER, "paired bootstrap")
    sd = factor * np.sqrt(0.05 * 0.95 / N)
    assert delta.high - delta.low == pytest.approx(2 * 1.96 * sd, rel=0.06)
    assert row_of(table, "ns").cells["imagenet_c"].best


def odd_one(folder):
    """Two rows, and a third one to be damaged: the result, and its outcomes."""
    store(folder, "a", "clean", flags(0.9, 0))
    store(folder, "b", "clean", flags(0.5, 1))
    right = np.arange(N) < 0.7 * N
    return store(folder, "odd", "clean", right), outcomes(right)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("other images", "other images than the rest"),
        ("no composition", "its suite does not say what its score is made of"),
    ],
)
def test_what_cannot_be_compared_image_by_image_is_compared_by_its_interval(tmp_path, change, reason):
    odd, measured = odd_one(tmp_path)
    if change == "other images":
        write_result(tmp_path, odd, {"clean": replace(measured, ids=np.array([f"x/{i}" for i in range(N)]))})
    else:
        write_result(tmp_path, replace(odd, score=replace(odd.score, made_of=None)), {"clean": measured})
    table = only_table(tmp_path, reference="a")
    cell = row_of(table, "odd").cells["clean"]
    assert re.search(reason, cell.unpaired)
    assert cell.delta.test == f"unpaired: {cell.unpaired}"
    assert cell.delta.verdict == WORSE
    assert not row_of(table, "b").cells["clean"].unpaired


def test_compare_lists_every_common_column_and_the_discordant_images(tmp_path):
    a, b = flags(0.6, 0), flags(0.5, 1)
    for suite in ("clean", "imagenet_c"):
        store(tmp_path, "a", suite, a)
        store(tmp_path, "b", suite, b)
    store(tmp_path, "b", "fgsm", b)
    found = compare(only_table(tmp_path), "a", "b")
    assert [one.suite for one in found] == ["clean", "imagenet_c"]
    assert (found[0].only_first, found[0].only_second) == (int((a & ~b).sum()), int((b & ~a).sum()))
    assert found[0].delta.p == pytest.approx(mcnemar_exact(a, b))
    assert found[1].only_first is None
    with_partial = compare(only_table(tmp_path, partial=True), "a", "b")
    assert with_partial[0].suite == AVERAGE
    with pytest.raises(UsageError, match="'z' is no row"):
        compare(only_table(tmp_path), "a", "z")


def test_only_one_right_over_seeds_is_the_mean_over_all_pairs_of_seeds(tmp_path):
    mine, theirs = [flags(0.6, seed) for seed in (0, 1)], [flags(0.5, seed) for seed in (2, 3, 4)]
    for method, all_flags in (("a", mine), ("b", theirs)):
        for seed, right in enumerate(all_flags):
            store(tmp_path, method, "clean", right, seed=seed)
    (found,) = compare(only_table(tmp_path), "a", "b")
    assert found.only_first == pytest.approx(np.mean([(a & ~b).sum() for a in mine for b in theirs]), abs=0.051)
    assert found.only_second == pytest.approx(np.mean([(b & ~a).sum() for a in mine for b in theirs]), abs=0.051)


def test_images_are_not_drawn_for_intervals_over_trainings(tmp_path, monkeypatch):
    for method, share, seeds in (("a", 0.6, 3), ("b", 0.5, 3), ("c", 0.4, 1)):
        for seed in range(seeds):
            store(tmp_path, method, "clean", flags(share, seed), seed=seed)
    drawn = []
    monkeypatch.setattr(deltas, "resampled_sums", lambda strata: drawn.append(strata) or resampled_sums(strata))
    table = only_table(tmp_path)
    drawn.clear()
    (over_trainings,) = compare(table, "a", "b")
    assert over_trainings.delta.test == deltas.TRAININGS
    assert not drawn
    (over_images,) = compare(table, "a", "c")
    assert over_images.delta.test == deltas.SEEDS
    assert len(drawn) == 1


def test_the_reader_finds_the_scores_again(tmp_path):
    result = store(tmp_path, "a", "imagenet_c", flags(0.4, 0), order=np.random.default_rng(0).permutation(N))
    found = Reader().per_image(result)
    assert found.values.mean() == pytest.approx(result.score.value, rel=1e-6)
    assert found.images.ids.tolist() == sorted(read_outcomes(result)["fog/1"].ids)
    assert not found.accuracy


def own_suite(folder, method, score, share=0.5):
    """A stranger's suite: three severities of two corruptions, with outcomes of their own."""
    rng = np.random.default_rng(len(method))
    difficulty = np.random.default_rng(0).random(N)
    names = [f"{corruption}/{severity}" for corruption in ("fog", "snow") for severity in (1, 3, 5)]
    measured = {name: outcomes(difficulty + 0.3 * rng.random(N) < share + 0.3) for name in names}
    conditions = tuple(boards.condition("mine", one, name, split=f"c/{name}") for name, one in measured.items())
    changes = {"score": score(measured), "conditions": conditions, "lower_is_better": True, "paper": False}
    write_result(folder, boards.result(method, "mine", **changes), measured)
    return np.mean([~one.correct for one in measured.values()], axis=0) * 100  # of each image


def test_a_suite_of_ones_own_is_paired(tmp_path):
    errors = {
        method: own_suite(tmp_path, method, lambda measured: nb.weighted(measured, counts="wrong"), share)
        for method, share in (("a", 0.50), ("bbb", 0.53))
    }
    table = only_table(tmp_path, reference="a")
    assert {row.cells["mine"].unpaired for row in table.rows} == {""}
    for method, mine in errors.items():
        assert row_of(table, method).cells["mine"].value == pytest.approx(mine.mean())
    change = errors["bbb"] - errors["a"]
    delta = row_of(table, "bbb").cells["mine"].delta
    assert (delta.verdict, delta.test) == (BETTER, "paired bootstrap")
    assert delta.value == pytest.approx(change.mean())
    assert delta.high - delta.low == pytest.approx(2 * 1.96 * change.std() / np.sqrt(N), rel=0.06)
    assert norm.isf(delta.p / 2) == pytest.approx(abs(change.mean()) / (change.std() / np.sqrt(N)), rel=0.05)


def test_a_suite_that_does_not_say_what_its_score_is_made_of_is_compared_by_its_intervals(tmp_path):
    for method, share in (("a", 0.50), ("bbb", 0.56)):
        own_suite(
            tmp_path, method, lambda measured: replace(nb.weighted(measured, counts="wrong"), made_of=None), share
        )
    table = only_table(tmp_path, reference="a")
    delta = row_of(table, "bbb").cells["mine"].delta
    assert (delta.verdict, delta.test) == (
        NOT_SEPARABLE,
        "unpaired: its suite does not say what its score is made of",
    )


def test_one_condition_at_half_weight_is_no_accuracy(tmp_path):
    made_of = Composition({"clean": 50.0})
    right = flags(0.6, 0)
    half = Score(50 * right.mean(), 20, 40, N, {}, made_of)
    found = Reader().per_image(store(tmp_path, "a", "clean", right, score=half))
    assert set(found.values.tolist()) == {0, 50}
    assert not found.accuracy


def test_results_of_schema_1_and_2_are_paired_with_each_other(tmp_path):
    shutil.copytree(FROZEN, tmp_path / "results")
    results, _ = read_results(tmp_path / "results")
    for old in results:
        assert old.outcomes_format == "npz"
        write_result(tmp_path / "results", replace(old, method="again", method_title="Again"), read_outcomes(old))
    table = only_table(tmp_path / "results")
    assert len(table.rows) == 2
    for suite, column in table.evidence.suites.items():
        assert set(column.values) == {0, 1}, suite
        np.testing.assert_array_equal(column.values[0], column.values[1])
    assert not table.evidence.reasons
