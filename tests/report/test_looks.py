"""What rows look like: one colour and mark for a method on every board, and intervals that lean to one side."""

import made
import pytest

from nsbench import registry
from nsbench.leaderboard import build
from nsbench.report.labels import shortened
from nsbench.report.numbers import ends, norms
from nsbench.report.page.charts import marker
from nsbench.report.page.table_figures import looks
from nsbench.report.plots import Look


def board(*methods, **settings):
    results = [
        made.result(method=name, method_order=order, identity=f"{name}{value}", recipe=made.recipe(epsilon=value))
        for name, order in methods
        for value in settings.get("epsilon", (0.03,))
    ]
    return build(results)


def of(*methods, **settings):
    return looks(board(*methods, **settings))[0]


def test_the_shipped_methods_look_different_on_one_board():
    registry.load_content()
    order = {method.name: method.order for method in registry.methods.values()}
    found = of(*order.items())
    assert len(set(found.values())) == len(found) >= 17
    first = [look.colour for name, look in found.items() if order[name] in (10, 20, 25, 30, 40, 50)]
    assert len(set(first)) == 6


def test_a_method_looks_alike_whoever_stands_beside_it():
    alone, beside = of(("mine", 30)), of(("other", 10), ("mine", 30), ("third", 66), ("stranger", 100))
    assert alone["mine"] == beside["mine"] == Look(3)


def test_who_declares_no_place_gets_a_look_that_nobody_has():
    found = of(("a", 20), *((f"own{at}", 100) for at in range(40)))
    assert len(set(found.values())) == 41
    assert found["own3"] == of(("own3", 100))["own3"]


def test_rows_of_a_method_share_its_colour_and_have_marks_of_their_own():
    found = of(("mine", 30), epsilon=(0.01, 0.03, 0.1, 0.3))
    assert {look.colour for look in found.values()} == {3}
    assert len(set(found.values())) == 4


def test_every_shape_is_drawn_with_its_classes_and_title():
    for shape in range(5):
        svg = str(marker(Look(2, True, shape), 10, 20, 4.0, "<me>"))
        assert "<title>&lt;me&gt;</title>" in svg
        assert f'class="k2{f" m{shape}" if shape else ""} hollow dot"' in svg


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((0, 0, 13.8), "+13.8\n−0.0"),
        ((95, 88.8, 97.8), "+2.8\n−6.2"),
        ((60, 55, 64), "±4.5"),
        ((99.9, 99.5, 99.95), "±0.2"),
    ],
)
def test_an_interval_that_leans_to_one_side_gives_both(interval, text):
    assert ends(*interval) == text


def test_norms_are_written_in_one_way():
    assert norms("linf 4 /255, l2 unbounded, l-inf, all 12") == "ℓ∞ 4/255, ℓ2 unbounded, ℓ∞, all 12"


def test_names_that_are_cut_keep_what_tells_them_apart() -> None:
    rows = [
        "NS · checkpoint 2d7d1c68 · epsilon 0.03 · noise_stop batch · rounds 8",
        "NS · checkpoint 2d7d1c68 · epsilon 0.1 · noise_stop batch · rounds 8",
        "NS · checkpoint 2d7d1c68 · epsilon 0.03 · noise_stop held-out · rounds 8",
        "finetune (control) · checkpoint 2d7d1c68 · rounds 8",
        "pretrained",
        "pretrained · of another folder with a long name",
        "a name of forty letters that has no part",
    ]
    names = shortened(rows, 28)
    assert len(set(names.values())) == len(rows)
    assert names[rows[1]] == "NS · epsilon 0.1 …"
    assert names[rows[2]] == "NS · noise_stop held-out …"
    assert names[rows[4]] == "pretrained"
    controls = shortened(
        ["finetune (control) · rounds 8", "finetune (control) · rounds 16", "random noise · epsilon 0.1"], 21
    )
    assert list(controls.values()) == ["finetune… · rounds 8", "finetune… · rounds 16", "random noise · epsil…"]
    for most in (12, 20, 28, 60, 200):
        for label, name in shortened(rows, most).items():
            assert len(name) <= most
            assert name == label or "…" in name
            assert label.startswith(name[:4])
    assert shortened(rows, 200) == {row: row for row in rows}
