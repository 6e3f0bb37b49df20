"""What the page draws: the figures of charts and maps, what is left out and said so, and its size."""

import io
import re
from dataclasses import replace
from itertools import combinations

import made
import numpy as np
import pytest
from page_results import Page, linf, one_round, outcomes, stored

from nsbench import report
from nsbench.leaderboard import RowFlag, build, compare
from nsbench.leaderboard.details import Details
from nsbench.report.page import charts, pictures, suite_figures
from nsbench.report.page.diagrams import cloud
from nsbench.report.page.rows import (
    Limits,
    differences,
    drawn,
    initial_pair,
    reference_name,
    references,
)
from nsbench.report.page.suite_cards import attack_table
from nsbench.report.plots import Cloud, Look, Spot
from nsbench.results import AttackCard, Convergence, StillRight, read_results, samples_path
from nsbench.results.samples import Sampler, pack_samples
from nsbench.statistics import ALEXNET_ERROR, SEVERITIES
from nsbench.statistics.corruption_error import mean_corruption_error
from nsbench.types import Composition, Score, ThreatModel

CORRUPTIONS = [f"{c}/{s}" for c in ALEXNET_ERROR for s in SEVERITIES]


COMPOSITION = Composition(dict.fromkeys(CORRUPTIONS, 100 / 75), "wrong")


def corrupted(shift):
    """75 conditions; `shift` more errors of 100 than the severity alone makes."""
    return {name: (f"c/{name}", None, outcomes(100 - 10 * int(name[-1]) - shift)) for name in CORRUPTIONS}


@pytest.fixture
def board(tmp_path):
    folder = tmp_path / "results"
    for method, right, shift in (("pretrained", 70, 4), ("ns", 95, 0), ("finetune", 80, 3)):
        stored(folder, method, right=right)
        stored(folder, method, "imagenet_c", score=mean_corruption_error, conditions=corrupted(shift))
    return build(*read_results(folder))


def synthetic(methods, suites=12, history=0):
    """A board of results without outcomes, one of them over corruptions."""
    rng = np.random.default_rng(0)
    for index in range(methods):
        name = "finetune" if index == 0 else f"method{index:04d}"
        own = {
            "weights_digest": name,
            "parent_digest": "p",
            "recipe": made.recipe(epsilon=0.03),
            "command": f"nsbench run --method {name} --suite all",
            "seconds": 10.0,
            "fit_seconds": None,
            "peak_memory_mib": None,
            "history": tuple(one_round(r, 1.0 + r, clean=0.1, noisy=0.2) for r in range(history)),
        }
        for suite in range(suites):
            value, last = float(rng.uniform(20, 90)), suite == suites - 1
            yield made.result(
                method=name,
                suite=f"s{suite}",
                score=Score(value, value - 2, value + 2, 1000, {}, COMPOSITION if last else None),
                lower_is_better=last,
                title=f"S{suite}",
                group="ood" if suite else "clean",
                order=suite,
                paper=suite < 11,
                summary="Protocol.",
                citation="Somebody 2025",
                method_summary="What it does.",
                method_order=index,
                conditions=tuple(
                    made.condition(
                        split, split=f"c/{split}" if last else split, n=1000, data_digest=split, accuracy=value
                    )
                    for split in (CORRUPTIONS if last else [f"s{suite}"])
                ),
                identity=f"{name}{suite}",
                **own,
            )


def test_every_pair_on_the_page_is_what_compare_says(board):
    (table,) = board.tables
    found = differences(table, most=50)
    labels = [row.label for row in table.rows]
    asked = {
        (one.suite, labels[a], labels[b]): one
        for a in range(3)
        for b in range(a + 1, 3)
        for one in compare(table, labels[a], labels[b])
    }
    numbers = found.numbers
    assert sum(len(pairs) for _, *pairs in numbers.values()) == len(asked) == 6
    for suite, (rows, *pairs) in numbers.items():
        for (first, second), (value, low, high, p, *only) in zip(combinations(rows, 2), pairs, strict=True):
            one = asked[suite, labels[first], labels[second]]
            assert value / 100 == pytest.approx(one.delta.value, abs=0.0051)
            assert low / 100 == pytest.approx(one.delta.low, abs=0.0051)
            assert high / 100 == pytest.approx(one.delta.high, abs=0.0051)
            assert abs(p / 1e5 - one.delta.adjusted) < 1.1e-5
            assert only == ([] if one.only_first is None else [one.only_first, one.only_second])


def test_the_first_comparison_is_the_best_row_with_its_control(board):
    (table,) = board.tables
    found = differences(table, most=50)
    assert (table.rows[found.first].method, table.rows[found.second].method) == ("ns", "finetune")
    ns, control = (next(i for i, row in enumerate(table.rows) if row.method == name) for name in ("ns", "finetune"))
    assert references(table)[ns] == control
    text = report.to_html(board)
    assert '<td class="change">+15.0</td>' in text  # 95 and 80 right of 100
    assert 'class="verdict better">better' in text


def test_the_page_names_the_reference_that_was_asked_for(tmp_path):
    for method in ("pretrained", "ns", "finetune"):
        stored(
            tmp_path,
            method,
            "imagenet_c",
            score=mean_corruption_error,
            conditions=corrupted({"pretrained": 4, "ns": 0, "finetune": 3}[method]),
        )
    for asked, option, title in ((None, "matched control", "FINETUNE"), ("pretrained", "PRETRAINED", "PRETRAINED")):
        board = build(*read_results(tmp_path), reference=asked)
        assert reference_name(board.tables[0]) == option
        text = report.to_html(board)
        assert f'<option value="">{option}</option>' in text
        assert f"<h5>Difference to {title}</h5>" in text


def test_without_a_control_any_row_may_be_the_reference_and_none_is(tmp_path):
    for method, right in (("one", 40), ("two", 60)):
        stored(tmp_path, method, right=right)
    board = build(*read_results(tmp_path))
    assert reference_name(board.tables[0]) == ""
    text = report.to_html(board)
    assert '<option value="">' not in text
    assert '<option value="1">ONE</option>' in text


def test_large_boards_hold_no_pairs_and_say_how_to_get_them():
    board = build(synthetic(60, suites=2))
    assert differences(board.tables[0], most=50) is None
    text = report.to_html(board)
    assert "data-pairs" not in text
    assert "With more than 50 rows the page does not hold the paired comparison of every two" in text


def test_charts_show_the_first_rows_and_the_control_and_say_so():
    board = build(synthetic(60, suites=3))
    (table,) = board.tables
    few = drawn(table.rows, 8)
    assert len(few) == 8
    assert "finetune" in [row.method for row in few]
    assert [row.label for row in few] == [row.label for row in table.rows if row in few]  # in the table's order
    text = report.to_html(board)
    assert "heat maps drawn: 8 of 60 rows, the first ones and the control; all are in the table" in text
    assert "nsbench report --detail 32" in text
    assert text.count('class="heat"') == 8 + 7  # errors, and differences to the control
    assert report.to_html(board, detail=5).count('class="heat"') == 5 + 4
    assert len(Page(report.to_html(board, detail=5)).all("article")) == 3 + 5  # suites, methods
    assert Limits.of(None) == Limits()


def test_fifty_methods_take_less_than_two_megabytes():
    text = report.to_html(build(synthetic(50, history=20)))
    assert text.count("data-r=") == 50
    assert "data-pairs" in text
    assert 300_000 < len(text.encode()) < 2_000_000 - pictures.BUDGET


def test_heat_maps_and_their_differences(board):
    (table,) = board.tables
    rows = {row.method: suite_figures.heat(row, row.cells["imagenet_c"]) for row in table.rows}
    assert list(rows["ns"].errors["fog"].values()) == pytest.approx([10, 20, 30, 40, 50])
    reference = suite_figures.reference_of(list(rows.values()))
    assert reference.row.method == "finetune"
    against = {one.row.method: one for one in suite_figures.against(list(rows.values()), reference)}
    assert set(against) == {"ns", "pretrained"}
    assert list(against["ns"].errors["fog"].values()) == pytest.approx([-3] * 5)
    assert against["pretrained"].strongest == pytest.approx(1)
    text = report.to_html(board)
    assert text.count('<td class="up" style="--t:1.00">−3.0</td>') == 75
    assert text.count('<td class="down" style="--t:0.33">+1.0</td>') == 75


def test_heat_maps_are_headed_by_the_severities_that_were_evaluated(tmp_path):
    """A suite of one severity, and one whose corruptions do not share theirs."""
    splits = ("fog/3", "fog/5", "snow/3")
    conditions = tuple(made.condition(name, split=f"c/{name}", accuracy=90.0 - k) for k, name in enumerate(splits))
    board = build([made.result(suite="severities", conditions=conditions)])
    text = report.to_html(board)
    heads = re.findall(r'<th scope="col">(\d)</th>', text)
    assert heads == ["3", "5"]
    body = text[text.index('<th scope="row">snow</th>') :]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", body[: body.index("</tr>")]) == ["12.0", "–"]
    (row,) = board.tables[0].rows
    lines = suite_figures.heat(row, row.cells["severities"]).plot.sheet.csv.splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["fog", "3"], ["fog", "5"], ["snow", "3"]]


def test_norms_are_those_of_the_images_that_the_attack_broke(tmp_path):
    n, rng = 100, np.random.default_rng(0)
    l2 = rng.uniform(0.1, 3, n)
    before, after = np.arange(n) >= 90, np.arange(n) >= 20  # 90 right before, 20 right after: 70 broken
    stored(
        tmp_path,
        "ns",
        "cw",
        conditions={
            "c 1": ("clean", ThreatModel("l2"), outcomes(20, l2=l2, linf=l2, predictions_clean=before.astype(np.int64)))
        },
    )
    (table,) = build(*read_results(tmp_path)).tables
    (row,) = table.rows
    broken = l2[20:90].astype(np.float32)
    assert (after & ~before).sum() == len(broken)
    svg = str(charts.strips(suite_figures.norms(Details(table), "cw", [row], {row.label: Look(0)})))
    assert f"{np.median(broken):.2f} <tspan" in svg
    assert "n 70" in svg
    x = charts.scale(0, np.quantile(broken, 0.95) * 1.05, 144, 460 - 82)
    assert f"M{x(np.quantile(broken, 0.25)):.1f} 19.0H{x(np.quantile(broken, 0.75)):.1f}" in svg


def test_no_norms_where_the_attack_could_not_choose_them(tmp_path):
    stored(
        tmp_path,
        "ns",
        "fgsm",
        conditions={
            "eps": (
                "clean",
                linf(1),
                outcomes(20, l2=np.ones(100), linf=np.ones(100) / 255, predictions_clean=np.zeros(100, dtype=np.int64)),
            )
        },
    )
    (table,) = build(*read_results(tmp_path)).tables
    assert suite_figures.norms(Details(table), "fgsm", table.rows, {table.rows[0].label: Look(0)}) is None


def test_a_whisker_lies_on_the_common_scale():
    assert charts.whisker(60, 50, 70, 50, 90) == "--l:3.0;--m:19.5;--h:36.0"  # of 3 to 69
    assert charts.balanced(-1, 3, 1, 4) == "--l:27.8;--m:44.2;--h:60.8;--z:36"


def test_effective_robustness_is_drawn_from_the_line_of_the_table():
    board = build(synthetic(6, suites=3))
    (table,) = board.tables
    line = table.lines[0]
    looks = {row.label: Look(0) for row in table.rows}
    svg = str(cloud(suite_figures.beyond(line, "S1", looks, [row.label for row in table.rows])))
    assert svg.count("<circle") == 6
    assert apart(names_of(svg))
    assert "Effective robustness" in report.to_html(board)


def names_of(svg):
    """(left, right, height) of the names beside points, at 7.2 px a character at most."""
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)"( class="end")?>((?:method|finetune|row)[^<]*)', svg)
    assert found
    lefts = [(float(x) - (7.2 * len(name) if end else 0), 7.2 * len(name), float(y)) for x, y, end, name in found]
    return [(left, left + wide, height) for left, wide, height in lefts]


def apart(names):
    return not any(a < d and c < b and abs(y - z) < 12 for i, (a, b, y) in enumerate(names) for c, d, z in names[:i])


@pytest.mark.parametrize("whiskers", [False, True])
def test_every_point_of_a_crowd_has_its_name_and_none_covers_another(whiskers):
    at = [(97.0, 82.1), (96.8, 79.2), (97.0, 79.2), (96.7, 79.0), (95.1, 83.1), (93.1, 80.2)]
    spots = [
        Spot(f"row {i} (control)", Look(i), x, y, *(((x - 1, x + 1), (y - 2, y + 2)) if whiskers else ()))
        for i, (x, y) in enumerate(at)
    ]
    names = names_of(str(cloud(Cloud(spots, [spot.label for spot in spots], "x", "y", ""))))
    assert len(names) == len(spots)
    assert apart(names)
    assert all(0 < left < right < 460 for left, right, _ in names)


def test_health_flags_stand_at_their_row_with_their_sentence(board):
    (table,) = board.tables
    flag = RowFlag("zero gradients", "FGSM: the loss is <flat> at 12 of 100 images.", ("fgsm",))
    rows = [replace(row, flags=(flag,)) if row.method == "ns" else row for row in table.rows]
    text = report.to_html(replace(board, tables=(replace(table, rows=tuple(rows)),)))
    found = Page(text)
    (mark,) = found.all("a", "flag")
    assert mark["href"] == "#t0-health"
    assert mark["title"] == "zero gradients. FGSM: the loss is <flat> at 12 of 100 images. "
    assert "⚑ NS: zero gradients. FGSM: the loss is &lt;flat&gt; at 12 of 100 images." in text
    assert not Page(report.to_html(board)).all("a", "flag")


def test_the_attack_card_has_a_column_for_what_is_known_of_any_attack():
    card = AttackCard(930, 9.358, 25.06, 0.0212, library="nsbench 0.1.0", steps=250.0, loss="cross-entropy")
    patch = made.condition("1", attack="patchfool", threat=ThreatModel("patch", patches=1), attack_card=card)
    step = replace(card, images=1200, loss=None, restarts=2.0, seconds=0.00106)
    linf = made.condition("2", attack="fgsm", threat=ThreatModel("linf", 0.5 / 255), attack_card=step)
    l2 = made.condition("3", attack="pgd", threat=ThreatModel("l2", 0.5), attack_card=step)
    found = attack_table([patch, made.condition("plain"), linf, l2])
    columns = dict(zip(found.heads, zip(*found.lines, strict=True), strict=True))
    assert "start" not in columns
    assert columns["attack"] == ("patchfool", "fgsm", "pgd")
    assert columns["images attacked"] == ("930", "1,200", "1,200")
    assert columns["eps"] == ("unbounded", "0.5/255", "0.5")
    assert columns["patches"] == ("1", None, None)
    assert columns["steps"] == ("250", "250", "250")
    assert columns["restarts"] == (None, "2", "2")
    assert columns["loss"] == ("cross-entropy", None, None)
    assert columns["ms / image"] == ("21.2", "1.06", "1.06")
    assert "still falling" not in columns  # nothing told it
    ended = replace(step, convergence=Convergence(1000, 20, 0.5, 3))
    old = replace(step, convergence=Convergence(10, 2))
    table = attack_table([replace(linf, attack_card=one) for one in (ended, old, step)])
    columns = dict(zip(table.heads, zip(*table.lines, strict=True), strict=True))
    assert columns["still falling"] == ("20 of 1,000", "2 of 10", None)
    assert columns["within reach"] == ("3 of 1,000", None, None)
    assert attack_table([made.condition("plain")]) is None


def test_the_course_of_an_attack_is_drawn_where_it_is_told():
    """Of the first attacked condition, over all of its images, mean over seeds."""
    told = AttackCard(80, 1, 1, 0.0, still_right=tuple(map(StillRight, (0, 1, 2), (80, 30, 20))))
    other = replace(told, still_right=tuple(map(StillRight, (0, 1, 2), (80, 50, 30))))
    results = [
        made.result(seed=seed, conditions=(made.condition("plain"), made.condition("x", attack="a", attack_card=card)))
        for seed, card in enumerate((told, other))
    ]
    points = suite_figures._iterations(results)
    assert [(point.x, point.y) for point in points] == [(0, 80.0), (1, 40.0), (2, 25.0)]
    assert suite_figures._iterations([made.result()]) == []


def test_a_recipe_is_shown_field_by_field(tmp_path):
    stored(tmp_path, recipe=made.recipe("quick", 3, crop_scale=(0.6, 1.0), flip=0.5))
    text = report.to_html(build(*read_results(tmp_path)))
    assert "<dt>name</dt><dd>quick</dd><dt>seed</dt><dd>0</dd><dt>crop scale</dt><dd>0.6, 1</dd>" in text


def test_the_script_is_small_and_the_toolbar_waits_for_it(board):
    text = report.to_html(board)
    script = text[text.index("<script>") : text.index("</script>")]
    assert len(script) < 32_000
    tools = [attributes for tag, attributes in Page(text).tags if tag == "form"]
    assert tools
    assert all("hidden" in one for one in tools)


def test_the_tables_own_text_is_there_to_copy(board):
    text = report.to_html(board)
    assert r"\toprule" in text
    assert io.StringIO(report.to_markdown(board)).readline().strip() in text


def with_pictures(folder):
    """Two rows on the same 100 images, 6 of which ns alone and 2 of which the control alone has right."""
    for method, hits in (("ns", set(range(60)) - {0, 1}), ("finetune", set(range(60)) - set(range(10, 16)))):
        one = outcomes(0)
        right = np.array([index in hits for index in range(100)])
        one = replace(one, predictions=np.where(right, 0, 1))
        result = stored(folder, method, "fgsm", conditions={"eps": ("clean", linf(8), one)})
        sampler = Sampler()
        rng = np.random.default_rng(0)
        clean = rng.uniform(0.2, 0.8, (100, 3, 16, 16))
        sampler.offer(
            one.ids,
            one.labels,
            one.predictions,
            clean,
            clean + 0.03,
            {"linf": np.full(100, 8 / 255), "l2": np.full(100, 0.83)},
        )
        pictures = pack_samples(result.identity, {"eps": sampler.samples}, ["<square>", "disk"])
        samples_path(result).write_bytes(pictures)
    return build(*read_results(folder))


def test_pictures_show_samples_and_what_one_row_wins(tmp_path):
    board = with_pictures(tmp_path)
    next(tmp_path.rglob("finetune/*.samples.*.zip")).write_bytes(b"half")
    assert re.search(
        r"samples\.[0-9a-f]+\.zip", report.to_html(build(*read_results(tmp_path)))
    )  # named, and the rest is shown
    text = report.to_html(board)
    assert "Won by NS: 6 images" in text
    assert "Lost to FINETUNE: 2 images" in text
    images = Page(text).all("img")
    assert all(re.fullmatch(r"data:image/webp;base64,[A-Za-z0-9+/=]+", one["src"]) for one in images)
    assert all(one["alt"] for one in images)
    assert len(images) >= 3 * pictures.EACH
    assert '&lt;square&gt; → disk <b class="cross">✗</b>' in text
    assert "ℓ∞ 8.0/255 · ℓ2 0.83" in text


def test_pictures_keep_to_their_budget(tmp_path):
    (table,) = with_pictures(tmp_path).tables
    pair = initial_pair(table)
    whole = pictures.picture_book(table, pair)
    everything = whole.suite("fgsm")
    used = pictures.BUDGET - whole.left
    assert used > 1000
    assert not everything.left_out
    narrow = pictures.PictureBook(whole.album, pair, used // 2)
    found = narrow.suite("fgsm")
    assert found.left_out
    assert 0 <= narrow.left < used // 2
    assert [one.id for one in found.swings.won] == [one.id for one in everything.swings.won]  # named all the same


@pytest.mark.parametrize(
    ("suite", "lower", "order"), [("clean", False, "descending"), ("imagenet_c", True, "ascending")]
)
def test_the_column_by_which_rows_stand_is_marked(suite, lower, order):
    rows = [made.result(method=m, suite=suite, lower_is_better=lower, identity=m) for m in "ab"]
    heads = re.findall(r"<th [^>]*aria-sort[^>]*>", report.to_html(build(rows)))
    assert [re.findall('aria-sort="([a-z]+)"', head) for head in heads] == [[order]]
    mixed = [rows[0], made.result(method="c", suite="fgsm", identity="c")]
    assert "aria-sort=" not in report.to_html(build(mixed)).partition("<script>")[0]  # by no one column
