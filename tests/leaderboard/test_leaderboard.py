"""The rules of the leaderboard: what may be compared, what is missing, who is best."""

from dataclasses import replace
from random import Random

import boards
import made
import numpy as np
import pytest
from boards import SUITES, row_of
from scipy.stats import t

from nsbench.leaderboard import EffectiveLine, build
from nsbench.statistics.calibration import CALIBRATION, TOP5
from nsbench.types import Composition, Score, ThreatModel


def result(method="ns", suite="clean", value=50.0, half=1.0, *, n=1000, version=1, condition=None, **changes):
    """A result without outcomes: value +- half."""
    images = {"n": n, "accuracy": value, "data_digest": f"{suite} {n}"}
    one = boards.condition(suite, **(images | (condition or {})))
    score = Score(value, value - half, value + half, n)
    return boards.result(
        method, suite, **{"score": score, "suite_version": version, "conditions": (one,), "identity": ""} | changes
    )


def eleven(method="ns", value=50.0, **fields):
    return [result(method, suite, value, **fields) for suite in SUITES]


def only_table(results):
    (table,) = build(results).tables
    return table


def test_sources_limits_and_preprocessings_never_share_a_table():
    board = build([result(), result(source="imagenet"), result(preprocessing="crop 224"), result(limit=64, n=64)])
    keys = [(table.source, table.image_set, table.preprocessing) for table in board.tables]
    assert keys == [
        ("imagenet", "all images", "crop 48"),
        ("shapes10", "all images", "crop 224"),
        ("shapes10", "all images", "crop 48"),
        ("shapes10", "limit 64", "crop 48"),
    ]


def test_models_that_see_the_same_pixels_share_a_table():
    table = only_table([result(), result(model="other", parent_digest="another")])
    assert sorted(row.label for row in table.rows) == ["ns · other", "ns · vit_shapes10"]
    assert table.model == "2 models"
    assert only_table([result()]).model == "vit_shapes10"


def test_missing_is_missing():
    table = only_table([result("ns", "clean"), result("pretrained", "clean"), result("pretrained", "fgsm")])
    assert "fgsm" not in row_of(table, "ns").cells
    assert row_of(table, "pretrained").cells["fgsm"].value == 50


def test_columns_are_in_the_papers_order():
    shuffled = eleven()
    Random(0).shuffle(shuffled)
    assert [column.suite for column in only_table(shuffled).columns] == list(SUITES)


def test_best_follows_the_direction_of_the_column():
    table = only_table(
        [result("a", "imagenet_c", 40), result("b", "imagenet_c", 60), result("a", "fgsm", 40), result("b", "fgsm", 60)]
    )
    assert row_of(table, "a").cells["imagenet_c"].best
    assert row_of(table, "b").cells["fgsm"].best
    assert not row_of(table, "b").cells["imagenet_c"].best


def test_what_intervals_alone_cannot_tell_apart_is_tied_and_a_lonely_row_is_not_best():
    table = only_table([result("a", value=50), result("b", value=51), result("c", value=40)])
    assert [row_of(table, name).cells["clean"].tied for name in "abc"] == [True, False, False]
    assert not row_of(only_table([result()]), "ns").cells["clean"].best


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 0}, "suite version: 0 instead of 1"),
        ({"n": 900}, "images per condition: 900 instead of 1000"),
        ({"condition": {"origin": "generated-memory"}}, "origin of the images: generated-memory instead of embedded"),
        ({"condition": {"data_digest": "another"}}, "other images than the rest of the column"),
        ({"condition": {"preprocess": "none"}}, "other preprocessing than the rest of the column"),
        ({"condition": {"threat": ThreatModel("linf", 8 / 255)}}, "other conditions than the rest of the column"),
    ],
)
def test_what_was_measured_otherwise_is_shown_apart_with_the_reason(change, reason):
    table = only_table([result("a", value=50), result("b", value=60), result("odd", value=99, **change)])
    odd = row_of(table, "odd").cells["clean"]
    assert odd.reason == reason
    assert not odd.best
    assert row_of(table, "b").cells["clean"].best


def test_the_average_needs_all_eleven():
    table = only_table(eleven("whole", 50, half=2) + eleven("part", 50)[:-1])
    assert row_of(table, "part").average is None
    whole = row_of(table, "whole").average
    assert whole.value == pytest.approx(50)
    # Seven suites are made of the validation images and err together, four have images of their own.
    assert whole.high - whole.value == pytest.approx((14**2 + 4 * 2**2) ** 0.5 / 11)


def test_the_average_takes_100_minus_mce():
    figures = eleven("ns", 50)
    figures[list(SUITES).index("imagenet_c")] = result("ns", "imagenet_c", 72)
    assert only_table(figures).rows[0].average.value == pytest.approx((10 * 50 + 28) / 11)


def test_no_average_over_columns_that_may_not_be_compared_or_extended_suites():
    odd = [
        replace(r, suite_version=0) if r.suite == "fgsm" and r.method == "b" else r for r in eleven("a") + eleven("b")
    ]
    assert row_of(only_table(odd), "b").average is None
    twelve = [*eleven("a")[:-1], result("a", "stylized", paper=False)]
    assert only_table(twelve).rows[0].average is None


def test_no_average_over_different_weights():
    mixed = [
        replace(r, provenance=replace(r.provenance, weights_digest="other")) if r.suite == "cw" else r for r in eleven()
    ]
    (only,) = only_table(mixed).rows
    assert only.average is None
    assert "different weights" in only.notes[0]


def test_seeds_are_averaged_and_their_spread_stands_apart():
    (only,) = only_table(eleven(value=50, seed=0) + eleven(value=52, seed=1) + [result(value=60, seed=2)]).rows
    assert only.cells["clean"].value == pytest.approx(54)
    assert only.cells["clean"].spread == (50, 60)
    assert only.cells["clean"].seeds == (0, 1, 2)
    trainings = t.ppf(0.975, 2) * np.std([50, 52, 60], ddof=1) / 3**0.5
    assert only.cells["clean"].high - only.cells["clean"].low == pytest.approx(2 * np.hypot(1, trainings))
    assert only.average.seeds == (0, 1)  # seed 2 lacks ten columns
    assert only.average.spread == pytest.approx((50 + 0, 52 - 4 / 11))


def test_of_one_seed_the_newest_result_counts():
    (only,) = only_table([result(value=50, date="2025-01-01"), result(value=60, date="2025-02-01")]).rows
    assert only.cells["clean"].value == 60
    assert "1 older" in only.notes[0]


def test_normalisation_recipe_and_checkpoint_make_rows_of_their_own():
    table = only_table(
        [
            result(),
            result(normalisation="imagenet"),
            result(recipe=made.recipe(lr=1)),
            result(recipe=made.recipe(lr=1, seed=7), seed=7),
            result(recipe=made.recipe("paper", lr=2)),
            result(recipe=made.recipe("paper", lr=3)),
            result(parent_digest="second one"),
        ]
    )
    assert sorted(row.qualifiers for row in table.rows) == sorted(
        [
            ("checkpoint parent",),
            ("imagenet normalisation", "checkpoint parent"),
            ("recipe quick", "checkpoint parent"),
            ("recipe paper", "checkpoint parent", "lr 2"),
            ("recipe paper", "checkpoint parent", "lr 3"),
            ("checkpoint second o",),
        ]
    )


def test_a_budget_of_compute_is_told_where_there_is_one():
    rows = only_table(
        [result(recipe=made.recipe(compute=c, epsilon=e)) for c, e in ((0.0, 0.1), (130560.0, 0.1), (0.0, 2.0))]
    ).rows
    assert sorted(row.qualifiers for row in rows) == [
        ("compute 130560", "epsilon 0.1"),
        ("epsilon 0.1",),
        ("epsilon 2",),
    ]


def test_what_is_not_as_in_most_rows_is_told_of_rows_of_other_methods_too():
    """The only row of its method shares its name with none, and still is not what its name alone says."""
    usual, other = made.recipe(epsilon=0.03, rounds=8), made.recipe(epsilon=0.1, rounds=8)
    rows = [result(name, recipe=usual) for name in ("ns", "finetune")]
    rows += [result("random", recipe=other), result("elsewhere", recipe=usual, parent_digest="second one")]
    assert {row.method: row.qualifiers for row in only_table(rows).rows} == {
        "ns": (),
        "finetune": (),
        "random": ("epsilon 0.1",),
        "elsewhere": ("checkpoint second o",),
    }
    two = only_table([result("ns", recipe=usual), result("random", recipe=other)]).rows
    assert {row.qualifiers for row in two} == {("epsilon 0.03",), ("epsilon 0.1",)}  # none of the two is the usual one


def test_rows_without_an_average_stand_by_their_first_figure_best_first():
    apart = result("apart", value=99.0, version=1)  # of an older suite: not compared, so that it decides nothing
    rows = [
        *(result(name, value=value, version=2) for name, value in (("B", 60.0), ("a", 60.0), ("last", 40.0))),
        result("c", "imagenet_c", 70.0, unit="mCE", lower_is_better=True),
        result("better_c", "imagenet_c", 50.0, unit="mCE", lower_is_better=True),
        apart,
    ]
    assert [row.method for row in only_table(rows).rows] == ["a", "B", "last", "better_c", "c", "apart"]
    whole = eleven("whole", 10.0, version=2)
    assert [row.method for row in only_table([*whole, *rows[:3]]).rows] == ["whole", "a", "B", "last"]


def test_rows_that_look_alike_have_labels_of_their_own():
    """Views look rows up by their labels; titles are whatever a result states, and a recipe may be absent."""
    recipe = made.recipe()
    results = [
        result(recipe=recipe, identity="b"),
        result(suite="fgsm", recipe=None, identity="a"),
        result("other", method_title="ns", recipe=recipe, identity="c"),
        result("twice", parent_digest="12345678" + "a" * 8, identity="d"),
        result("twice", parent_digest="12345678" + "b" * 8, identity="e"),
    ]
    labels = sorted(row.label for row in only_table(results).rows)
    assert labels == [
        "ns · method ns · no recipe",
        "ns · method ns · with a recipe",
        "ns · method other",
        "twice · checkpoint 12345678 · row 1",
        "twice · checkpoint 12345678 · row 2",
    ]
    assert labels == sorted(row.label for row in only_table(results[::-1]).rows)


def test_ranks_are_ranges_where_the_intervals_allow_several_places():
    table = only_table(eleven("top", 80, half=0.1) + eleven("x", 50, half=2) + eleven("y", 51, half=2))
    assert [(row.method, row.rank) for row in table.rows] == [("top", (1, 1)), ("y", (2, 3)), ("x", (2, 3))]


def test_the_order_of_results_does_not_matter():
    results = eleven("a", 50) + eleven("b", 52) + eleven("b", 53, seed=1) + [result("odd", n=7)]
    shuffled = list(results)
    Random(1).shuffle(shuffled)
    assert build(shuffled) == build(results)


def test_problems_of_reading_are_handed_on():
    assert build([result()], ["x.json: unreadable"]).problems == ("x.json: unreadable",)


def test_the_control_is_known_by_its_role_whatever_its_name():
    table = only_table([result("plain", value=40, method_role="control"), result("finetune", method_role="")])
    assert {row.method: row.role for row in table.rows} == {"plain": "control", "finetune": ""}
    assert row_of(table, "plain").cells["clean"].delta is None
    delta = row_of(table, "finetune").cells["clean"].delta
    assert (delta.reference, delta.value) == ("plain", 10)
    assert delta.test == "unpaired: its suite does not say what its score is made of"


def test_figures_beside_the_score_are_means_over_seeds_that_all_have_them():
    def kept(seed, **extra):
        return result(seed=seed, score=Score(50, 49, 51, 100, extra))

    table = only_table([kept(0, **{TOP5: 80.0, CALIBRATION: 4.0}), kept(1, **{TOP5: 90.0})])
    cell = table.rows[0].cells["clean"]
    assert cell.extra(TOP5) == 85
    assert cell.extra(CALIBRATION) is None  # the second seed is of an old version


# What a figure is, and whose code it was measured with


def own_code(method="ns", suite="clean", **codes):
    """A result of one's own content; `codes`: digests, by what they are of."""
    one = result(method, suite, condition={"attack": "mine"})
    versions = {name.replace("_", " "): code for name, code in codes.items()}
    return replace(one, provenance=replace(one.provenance, versions=one.provenance.versions | versions))


@pytest.mark.parametrize("what", ["attack_mine", "suite_clean"])
def test_figures_of_other_code_of_an_attack_or_a_suite_are_not_compared(what):
    table = only_table([own_code("a", **{what: "1"}), own_code("b", **{what: "1"}), own_code("c", **{what: "2"})])
    assert [row_of(table, name).cells["clean"].reason for name in "abc"] == [
        "", "", "other code of the suite or its attacks than the rest of the column",
    ]  # fmt: skip


def test_a_method_of_other_code_is_another_row():
    first, second = own_code(method_ns="1234567890"), replace(own_code(method_ns="abcdef0123"), seed=1, identity="b")
    table = only_table([first, second])
    assert sorted(row.label for row in table.rows) == ["ns · code 12345678", "ns · code abcdef01"]
    assert [row.cells["clean"].seeds for row in table.rows] in ([(0,), (1,)], [(1,), (0,)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit": "points"}, "other unit than the rest of the column"),
        ({"lower_is_better": True}, "other unit than the rest of the column"),
    ],
)
def test_a_figure_of_another_unit_is_not_compared(changes, words):
    table = only_table([result("a"), result("b"), replace(result("c"), **changes)])
    assert [row_of(table, name).cells["clean"].reason for name in "abc"] == ["", "", words]


def test_a_score_that_is_made_in_another_way_is_not_compared():
    made_of = {
        name: Composition({"clean": weight}) for name, weight in (("a", 100.0), ("b", 100.00000001), ("c", 50.0))
    }
    rows = [replace(one, score=replace(one.score, made_of=made_of[one.method])) for one in map(result, "abc")]
    table = only_table([*rows, result("d")])  # d does not say it, and is compared by its interval
    assert [row_of(table, name).cells["clean"].reason for name in "abcd"] == [
        "", "", "other composition of the score than the rest of the column", "",
    ]  # fmt: skip


def test_rows_that_tie_are_told_apart_by_nothing():
    """The same three accuracies in another order of the seeds, whose plain sum is another one in its last digit."""
    values = (60.1, 66.2, 64.3)
    orders = {"a": (0, 1, 2), "b": (2, 1, 0), "c": (1, 0, 2)}
    assert len({sum(values[k] for k in order) for order in orders.values()}) > 1
    table = only_table(
        [
            result(method, suite, values[k], seed=seed, identity=f"{method}{seed}{suite}")
            for method, order in orders.items()
            for suite in SUITES
            for seed, k in enumerate(order)
        ]
    )
    assert all(row.cells[suite].best for row in table.rows for suite in SUITES)
    assert table.critical.ranks == (2.0, 2.0, 2.0)
    assert table.critical.p == 1.0


def test_effective_robustness_is_of_seeds_and_weights_that_have_both_figures():
    clean = {"a": 40.0, "b": 50.0, "c": 60.0, "d": 70.0}
    rows = [result(name, "clean", value) for name, value in clean.items()]
    rows += [result(name, "imagenet_r", value / 2) for name, value in clean.items()]
    more = [result("d", "clean", 99.0, seed=1, identity="more")]  # without its figure under the shift
    (line,) = only_table(rows + more).lines
    assert dict((label, one) for label, one, _ in line.points)["d"] == 70.0
    shifted = rows[-1]
    other = replace(shifted, provenance=replace(shifted.provenance, weights_digest="other weights"))
    (line,) = only_table([*rows[:-1], other]).lines
    assert [label for label, *_ in line.points] == ["c", "b", "a"]


def test_a_line_through_nearly_equal_accuracies_can_be_drawn():
    line = EffectiveLine("imagenet_r", 1350.5, -1873.5, ())
    assert [line.expected(share) for share in (1, 50, 99.9)] == pytest.approx([0, 0, 100])
