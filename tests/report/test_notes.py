"""The sentence above a table: what its rows share, and what not."""

import made

from nsbench.leaderboard import build
from nsbench.report.notes import shared_note, text_notes
from nsbench.training.recipe import load_recipe


def row(method, *, recipe="quick", suite="clean", settings=None, **changes):
    used = made.recipe(recipe, **({"epsilon": 0.03} | (settings or {})))
    return made.result(
        method=method, suite=suite, recipe=used, identity=f"{method}{suite}{settings}{changes}", **changes
    )


def said(*results):
    (table,) = build(list(results)).tables
    return shared_note(table)


def test_rows_that_differ_in_their_method_alone_share_protocol_and_recipe():
    assert said(row("a"), row("b")) == "2 rows under the same protocol and recipe (quick); best first by clean."


def test_what_differs_is_named():
    assert "and recipe" not in said(row("a"), row("a", settings={"epsilon": 0.1}))
    assert "they differ in the recipe's epsilon;" in said(row("a"), row("a", settings={"epsilon": 0.1}))
    assert "they differ in recipe;" in said(row("a"), row("a", recipe="plain"))
    assert "they differ in starting weights;" in said(row("a"), row("a", parent_digest="f" * 16))
    assert "they differ in normalisation;" in said(row("a"), row("a", normalisation="imagenet"))
    assert "they differ in model;" in said(row("a"), row("a", model="other"))


def test_a_recipe_that_is_older_than_a_field_has_what_was_done_then():
    assert "differ" not in said(row("a"), row("b", settings={"noise_start": "uniform"}))
    assert "the recipe's noise start" in said(row("a"), row("b", settings={"noise_start": "last"}))


def test_figures_that_are_not_compared_are_excepted():
    assert "(but for the figures marked ≠)" in said(row("a"), row("b"), row("c", suite_version=0))


def test_the_order_of_rows_is_said_above_the_table_and_below_one_without_a_page():
    (one,) = build([row("a"), row("b")]).tables
    assert text_notes(one)[0] == "Rows: best first by clean."
    (mixed,) = build([row("a"), row("b", suite="fgsm")]).tables
    assert shared_note(mixed).endswith("; best first by each one's first figure.")
    assert shared_note(build([row("a")]).tables[0]).endswith("recipe (quick).")


def test_a_recipe_with_other_values_than_its_name_says_is_not_called_by_its_name_alone():
    """All rows share them, so that no row's name says so."""
    fields = load_recipe("quick").model_dump(exclude={"name", "seed", "trainable", "noise_start"})
    assert "and recipe (quick);" in said(*(row(name, recipe="quick", settings=fields) for name in "ab"))
    changed = fields | {"epsilon": 0.5, "rounds": 3}
    assert "and recipe (quick with rounds 3 and epsilon 0.5)" in said(
        *(row(name, recipe="quick", settings=changed) for name in "ab")
    )
