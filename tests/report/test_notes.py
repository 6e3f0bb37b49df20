"""The sentence above a table: what its rows share, and what not."""

import made

from nsbench.leaderboard import build
from nsbench.report.notes import shared_note


def row(method, *, recipe="quick", suite="clean", settings=None, **changes):
    used = made.recipe(recipe, **({"epsilon": 0.03} | (settings or {})))
    return made.result(
        method=method, suite=suite, recipe=used, identity=f"{method}{suite}{settings}{changes}", **changes
    )


def said(*results):
    (table,) = build(list(results)).tables
    return shared_note(table)


def test_rows_that_differ_in_their_method_alone_share_protocol_and_recipe():
    assert said(row("a"), row("b")) == "2 rows under the same protocol and recipe (quick); in the order of the methods."


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
