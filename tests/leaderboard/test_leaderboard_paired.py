"""The leaderboard on stored per-image outcomes: pairing by id, tests, deltas, averages, what is not comparable."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from test_leaderboard import SPLITS, SUITES

from nsbench.errors import UsageError
from nsbench.leaderboard import AVERAGE, BETTER, NOT_SEPARABLE, WORSE, build, compare
from nsbench.leaderboard.outcomes import Reader
from nsbench.report.tables.latex import to_latex
from nsbench.report.tables.text import to_markdown
from nsbench.results import Result, read_results, write_result
from nsbench.statistics import ALEXNET_ERROR, SEVERITIES, accuracy, mcnemar_exact, wilson
from nsbench.statistics.corruption_error import mean_corruption_error
from nsbench.types import Outcomes

N = 200


def outcomes(right, suite="clean", order=None):
    right = np.asarray(right, dtype=bool)
    ids = np.array([f"{SPLITS.get(suite, 'clean').split('/')[0]}/{i:05d}" for i in range(len(right))])
    order = np.arange(len(right)) if order is None else order
    return Outcomes(ids[order], np.zeros(len(right), dtype=np.int64), (~right[order]).astype(np.int64))


def store(folder, method, suite, right, *, seed=0, order=None, model="vit", n=None, **provenance):
    """`right`: flags of images; of mCE the flags under every one of the 75 conditions."""
    mce = suite == "imagenet_c"
    names = [f"{c}/{s}" for c in ALEXNET_ERROR for s in SEVERITIES] if mce else [suite]
    measured = {name: outcomes(right, suite, order) for name in names}
    split = SPLITS.get(suite, "clean")
    conditions = [
        {
            "name": name,
            "split": f"c/{name}" if mce else split,
            "attack": None,
            "params": {},
            "threat": None,
            "preprocess": "checkpoint",
            "n": len(right),
            "origin": "embedded",
            "data_digest": split,
            "accuracy": 100 * float(np.mean(right)),
        }
        for name in names
    ]
    own = {
        "normalisation": "own",
        "preprocessing": "crop 48",
        "weights_digest": f"{method}{seed}",
        "limit": None,
        "recipe": None if method == "pretrained" else {"name": "quick", "seed": seed},
        "parent_digest": model,
        "method_version": 1,
        "date": "2025-01-01",
        "seconds": 2.0,
        "fit_seconds": 10.0,
        "peak_memory_mib": 100,
        "device": "CPU",
    } | provenance
    result = Result(
        source="shapes10",
        model=model,
        method=method,
        suite=suite,
        seed=seed,
        score=(mean_corruption_error if mce else accuracy)(measured),
        unit="mCE" if mce else "%",
        lower_is_better=mce,
        title=suite.upper(),
        group=SUITES.get(suite, "ood"),
        order=list(SUITES).index(suite),
        paper=True,
        suite_version=1,
        summary="",
        citation="",
        method_title=method,
        method_summary="",
        method_order=1,
        conditions=conditions,
        provenance=own,
        identity=f"{method}{suite}{seed}{model}",
    )
    return write_result(folder, result, measured)


def flags(share, seed, n=N):
    return np.random.default_rng(seed).random(n) < share


def only_table(folder, **options):
    results, problems = read_results(folder)
    assert not problems
    (table,) = build(results, **options).tables
    return table


def row(table, label):
    (found,) = [index for index, row in enumerate(table.rows) if label in (row.label, row.method)]
    return found


def test_pairing_is_by_id_and_the_test_is_mcnemars(tmp_path):
    a, b = flags(0.6, 0), flags(0.6, 0)
    b[np.flatnonzero(b)[:9]] = False
    store(tmp_path, "a", "clean", a)
    store(tmp_path, "b", "clean", b, order=np.random.default_rng(1).permutation(N))
    table = only_table(tmp_path)
    p, adjusted = table.pairs["clean"].at(row(table, "a"), row(table, "b"))
    assert p == pytest.approx(mcnemar_exact(a, b)) == pytest.approx(2 / 2**9)
    assert adjusted == p  # one test in the table
    best, other = table.rows[row(table, "a")].cells["clean"], table.rows[row(table, "b")].cells["clean"]
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
    p, adjusted = pairs.at(row(table, "a"), row(table, "b"))
    assert p == pytest.approx(2 / 2**7)
    assert adjusted == pytest.approx(6 * p)  # of nine tests three are smaller; these six are equal
    assert not pairs.separable()[row(table, "a"), row(table, "b")]
    assert pairs.separable()[row(table, "a"), row(table, "c")]
    assert [table.rows[row(table, m)].cells["fgsm"].rank for m in "abc"] == [(1, 2), (1, 3), (2, 3)]


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
    store(tmp_path, "other", "clean", better, recipe={"name": "long"})
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
    assert table.rows[row(table, "b")].cells["clean"].delta is None
    assert table.rows[row(table, "a")].cells["clean"].delta.reference == "b"
    with pytest.raises(UsageError, match="'c' is no row of this table; choose one of: a, b"):
        only_table(tmp_path, reference="c")


def test_lower_mce_is_better_and_its_difference_is_paired(tmp_path):
    base = flags(0.5, 4)
    more = base.copy()
    more[np.flatnonzero(~base)[:10]] = True
    store(tmp_path, "finetune", "imagenet_c", base)
    store(tmp_path, "ns", "imagenet_c", more)
    table = only_table(tmp_path)
    delta = table.rows[row(table, "ns")].cells["imagenet_c"].delta
    factor = 100 * np.mean([1 / error for error in ALEXNET_ERROR.values()])
    assert delta.value == pytest.approx(-factor * 10 / N)
    assert (delta.verdict, delta.test) == (BETTER, "paired bootstrap")
    sd = factor * np.sqrt(0.05 * 0.95 / N)
    assert delta.high - delta.low == pytest.approx(2 * 1.96 * sd, rel=0.06)
    assert table.rows[row(table, "ns")].cells["imagenet_c"].best


def test_seeds_are_tested_on_their_mean_per_image(tmp_path):
    for seed in (0, 1, 2):
        store(tmp_path, "a", "clean", flags(0.55, seed), seed=seed)
        store(tmp_path, "b", "clean", flags(0.75, 10 + seed), seed=seed)
    table = only_table(tmp_path)
    cell = table.rows[row(table, "a")].cells["clean"]
    assert cell.seeds == (0, 1, 2)
    assert cell.low < cell.value < cell.high
    one = wilson(round(cell.value * N / 100), N)
    assert cell.high - cell.low < 0.7 * 100 * (one[1] - one[0])  # independent seeds say more than one
    assert cell.deviation == pytest.approx(np.std([r.score.value for r in cell.results], ddof=1))
    p, _ = table.pairs["clean"].at(0, 1)
    mean = [np.mean([flags(share, start + s) for s in range(3)], axis=0) for share, start in ((0.55, 0), (0.75, 10))]
    difference = mean[0] - mean[1]
    z = abs(difference.sum()) / np.sqrt((difference**2).sum())
    assert p == pytest.approx(2 * norm.sf(z), rel=1e-3)


def test_more_seeds_move_no_name_and_stand_apart_from_the_interval(tmp_path):
    for method in ("finetune", "ns"):
        store(tmp_path, method, "clean", flags(0.6, 1))
    one = only_table(tmp_path, reference="finetune")
    for seed, share in ((1, 0.5), (2, 0.7)):
        store(tmp_path, "ns", "clean", flags(share, 20 + seed), seed=seed, recipe={"name": "quick", "seed": seed})
    table = only_table(tmp_path, reference="finetune")
    assert sorted(r.label for r in table.rows) == sorted(r.label for r in one.rows) == ["finetune", "ns"]
    cell = table.rows[row(table, "ns")].cells["clean"]
    values = [r.score.value for r in cell.results]
    assert (cell.value, cell.deviation) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert cell.high - cell.low < 14  # that of the images; the seeds alone are 20 points apart
    assert max(values) - min(values) > 15
    assert cell.delta.test == "paired, over seeds"
    text = to_markdown(build(*read_results(tmp_path)))
    assert f"±{(cell.high - cell.low) / 2:.1f} σ {cell.deviation:.1f}" in text
    assert "σ is the standard deviation over seeds" in text
    assert r"$\sigma$" in to_latex(build(*read_results(tmp_path)))


def test_the_interval_of_mce_over_seeds_is_that_of_the_images_means(tmp_path):
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
        cell = table.rows[row(table, method)].cells["imagenet_c"]
        errors = factor * (1 - np.mean(seeds, axis=0))
        assert cell.value == pytest.approx(errors.mean())
        assert cell.high - cell.low == pytest.approx(2 * 1.96 * errors.std() / np.sqrt(N), rel=0.05)
        assert cell.low < cell.value < cell.high


def test_the_average_is_bootstrapped_together_over_shared_images(tmp_path):
    """Eleven suites with the same right images: those on the validation images move together, the rest apart."""
    for method, shift in (("finetune", 0), ("ns", 30)):
        for index, suite in enumerate(SUITES):
            shared = suite not in ("imagenet_a", "imagenet_v2", "imagenet_r", "imagenet_sketch")
            right = flags(0.5, 0 if shared else index)
            right[np.flatnonzero(~right)[:shift]] = True
            store(tmp_path, method, suite, right)
    table = only_table(tmp_path)
    control = table.rows[row(table, "finetune")]
    plain = [control.cells[s].value for s in SUITES if s != "imagenet_c"]
    assert control.average.value == pytest.approx((sum(plain) + 100 - control.cells["imagenet_c"].value) / 11)
    factor = np.mean([1 / error for error in ALEXNET_ERROR.values()])
    expected = 100 * 0.5 / np.sqrt(N) * np.hypot(6 + factor, 2) / 11  # seven suites go together, four apart
    assert control.average.high - control.average.low == pytest.approx(2 * 1.96 * expected, rel=0.08)
    delta = table.rows[row(table, "ns")].average.delta
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
    b = table.rows[row(table, "b")]
    assert b.average is None
    values = [b.cells[suite].value for suite in ("clean", "cw", "imagenet_c")]
    assert b.partial.value == pytest.approx((values[0] + values[1] + 100 - values[2]) / 3)
    assert b.rank is not None
    assert table.rows[row(table, "a")].average is not None


@pytest.mark.parametrize("damage", ["missing", "changed", "other images", "other score"])
def test_what_cannot_be_read_image_by_image_is_compared_by_its_interval(tmp_path, damage):
    store(tmp_path, "a", "clean", flags(0.9, 0))
    store(tmp_path, "b", "clean", flags(0.5, 1))
    path = store(tmp_path, "odd", "clean", flags(0.7, 2))
    if damage == "missing":
        path.with_suffix(".npz").unlink()
    elif damage == "changed":
        path.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes() + b" ")
    elif damage == "other images":
        result = read_results(tmp_path)[0][-1]
        measured = {"clean": replace(outcomes(flags(0.7, 2)), ids=np.array([f"x/{i}" for i in range(N)]))}
        write_result(tmp_path, result, measured)
    else:
        record = json.loads(path.read_text())
        record["score"]["value"] += 1
        path.write_text(json.dumps(record))
    table = only_table(tmp_path, reference="a")
    odd = table.rows[row(table, "odd")].cells["clean"]
    expected = {
        "missing": "cannot be read",
        "changed": "differs from the digest",
        "other images": "other images than the rest",
        "other score": "not a mean over images",
    }[damage]
    assert expected in odd.unpaired
    assert odd.delta.test.startswith("unpaired: ")
    assert odd.delta.verdict == WORSE
    assert not table.rows[row(table, "b")].cells["clean"].unpaired


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
    assert with_partial[-1].suite == AVERAGE
    with pytest.raises(UsageError, match="'z' is no row"):
        compare(only_table(tmp_path), "a", "z")


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
    beyond = table.rows[row(table, "m3")].effective["imagenet_r"]
    assert beyond == pytest.approx(55 - 100 / (1 + np.exp(-(intercept + slope * x[3]))))
    assert beyond > 5


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


def test_the_reader_finds_the_scores_again(tmp_path):
    path = store(tmp_path, "a", "imagenet_c", flags(0.4, 0), order=np.random.default_rng(0).permutation(N))
    result = read_results(path.parent)[0][0]
    found = Reader().per_image(result)
    assert found.values.mean() == pytest.approx(result.score.value, rel=1e-6)
    assert [one.decode() for one in found.images.ids] == sorted(result.outcomes()["fog/1"].ids)
