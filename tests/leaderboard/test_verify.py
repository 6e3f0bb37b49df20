"""A figure that its outcomes do not give is named, shown apart, and left out of marks, ranks and averages."""

from dataclasses import replace

import boards
import numpy as np
import pytest
from boards import N, flags, only_table, outcomes, row_of, store
from click.testing import CliRunner

from nsbench.cli.main import main
from nsbench.leaderboard import build
from nsbench.leaderboard.outcomes import Reader
from nsbench.leaderboard.verify import problem
from nsbench.results import outcomes_path, read_results, write_result
from nsbench.statistics import accuracy
from nsbench.statistics.combined import weighted
from nsbench.statistics.corruption_error import mean_corruption_error, partial_corruption_error
from nsbench.types import Composition, Outcomes

RIGHT = np.arange(N) < 0.7 * N  # 70.0


def with_confidence(right):
    """Outcomes with all that the runner keeps."""
    rng = np.random.default_rng(0)
    plain = outcomes(right)
    confidence = rng.uniform(0.3, 1, N).astype(np.float32)
    rest = np.array([[c for c in range(10) if c != p][:4] for p in plain.predictions])
    norms = {"l2": rng.uniform(0, 3, N).astype(np.float32), "predictions_clean": plain.labels.copy()}
    top5 = np.column_stack([plain.predictions, rest])
    return Outcomes(plain.ids, plain.labels, plain.predictions, norms, confidence / 2, confidence, top5)


def of(folder, method, measured, score=accuracy):
    """A stored result of these outcomes, by condition."""
    found = boards.store(folder, method, "clean", RIGHT)
    scored = score(measured)
    first = found.conditions[0]
    conditions = tuple(
        replace(first, name=name, n=len(one), accuracy=round(100 * float(one.correct.mean()), 4))
        for name, one in measured.items()
    )
    outcomes_path(found).unlink()
    found.path.unlink()
    return write_result(folder, replace(found, score=scored, conditions=conditions), measured)


def many(score):
    """Corruptions x severities with other accuracies each."""
    rng = np.random.default_rng(1)
    return {name: outcomes(rng.random(N) < 0.4 + 0.01 * place) for place, name in enumerate(score)}


MADE = {
    "accuracy": lambda folder: of(folder, "a", {"clean": with_confidence(RIGHT)}),
    "several conditions": lambda folder: of(
        folder, "a", {f"eps {k}/255": with_confidence(flags(1 / k, k)) for k in (1, 2, 4)}
    ),
    "mean of conditions": lambda folder: of(
        folder, "a", {name: outcomes(flags(0.3 + 0.1 * k, k)) for k, name in enumerate("xyz")}, weighted
    ),
    "mCE": lambda folder: of(folder, "a", many([*boards.CONDITIONS_OF_C, "clean"]), mean_corruption_error),
    "partial": lambda folder: of(folder, "a", many(["fog/1", "fog/3", "snow/5"]), partial_corruption_error),
}


@pytest.mark.parametrize("kind", MADE)
def test_what_the_runner_stores_is_what_its_outcomes_give(tmp_path, kind):
    MADE[kind](tmp_path)
    (stored,), problems = read_results(tmp_path)
    assert (problem(stored, Reader()), problems) == ("", [])
    assert build([stored]).problems == ()


def test_every_figure_beside_an_mce_is_worked_out_again(tmp_path):
    stored = MADE["mCE"](tmp_path)
    assert {"relative mCE", "mean error", "clean error", "error fog", "error severity 3"} <= stored.score.extra.keys()
    for name, value in stored.score.extra.items():
        changed = replace(stored, score=replace(stored.score, extra=dict(stored.score.extra) | {name: value + 0.5}))
        assert f"says {name} is" in problem(changed, Reader()), name


def score(**changes):
    return lambda result: replace(result, score=replace(result.score, **changes))


def beside(name, value):
    return lambda result: score(extra=dict(result.score.extra) | {name: value})(result)


def condition(**changes):
    return lambda result: replace(result, conditions=(replace(result.conditions[0], **changes), *result.conditions[1:]))


TAMPERED = {
    "value": (score(value=99.0), "its score is 99.000000, and its outcomes give 70.000000"),
    "value and interval": (score(value=99.0, low=98.0, high=99.9), "its score is 99.000000"),
    "narrow interval": (score(low=69.9, high=70.1), "says the interval 69.9000 to 70.1000"),
    "images": (score(n=20_000), "says n = 20,000, and its outcomes have 200"),
    "accuracy of the condition": (condition(accuracy=99.0), "condition clean: says accuracy 99.0000"),
    "images of the condition": (condition(n=20_000), "condition clean: says n = 20,000"),
    "robust accuracy": (beside("accuracy at l2 1", 99.0), "says accuracy at l2 1 is 99.0000"),
    "median norm": (beside("median l2 of successes", 9.0), "says median l2 of successes is 9.0000"),
    "calibration": (beside("calibration error", 0.1), "says calibration error is 0.1000"),
    "top-5": (beside("top-5 accuracy", 12.5), "says top-5 accuracy is 12.5000"),
    "composition": (score(made_of=Composition({"clean": 50.0})), "its score is 70.000000, and its outcomes give 35"),
    "what counts": (score(made_of=Composition({"clean": 100.0}, "wrong")), "and its outcomes give 30"),
    "condition that is not there": (
        score(made_of=Composition({"clean": 50.0, "x": 50.0})),
        "its score counts condition 'x', which was not evaluated",
    ),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_changed_figure_is_withheld(tmp_path, kind):
    change, reason = TAMPERED[kind]
    for method, right in (("finetune", flags(0.5, 1)), ("ns", flags(0.6, 2))):
        store(tmp_path, method, "clean", right)
    measured = {"clean": with_confidence(RIGHT)}
    honest = of(tmp_path, "odd", measured)
    write_result(tmp_path, change(honest), measured)
    board = build(*read_results(tmp_path))
    (line,) = board.problems
    assert reason in line
    assert "odd/clean.seed0.json" in line
    rows = {row.method: row.cells["clean"] for row in board.tables[0].rows}
    assert reason in rows["odd"].reason
    assert (rows["odd"].best, rows["odd"].rank, rows["odd"].delta) == (False, None, None)
    assert rows["ns"].best


@pytest.mark.parametrize("damage", ["absent", "changed", "other conditions"])
def test_outcomes_that_cannot_be_believed_withhold_their_figure(tmp_path, damage):
    store(tmp_path, "a", "clean", flags(0.5, 1))
    odd = store(tmp_path, "odd", "clean", RIGHT)
    content = outcomes_path(odd)
    if damage == "absent":
        content.unlink()
    elif damage == "changed":
        content.write_bytes(content.read_bytes() + b" ")
    else:
        write_result(tmp_path, odd, {"clean": outcomes(RIGHT), "more": outcomes(RIGHT)})
    table = only_table(tmp_path)
    assert row_of(table, "odd").cells["clean"].reason.startswith("not what its outcomes give: ")
    assert row_of(table, "a").cells["clean"].comparable


def test_the_average_needs_figures_that_are_verified(tmp_path):
    for suite in boards.SUITES:
        store(tmp_path, "ns", suite, flags(0.5, 1))
    assert only_table(tmp_path).rows[0].average is not None
    (stored,) = [one for one in read_results(tmp_path)[0] if one.suite == "clean"]
    write_result(tmp_path, score(value=99.0)(stored), {"clean": outcomes(flags(0.5, 1))})
    assert only_table(tmp_path).rows[0].average is None


def test_the_commands_name_it_show_it_apart_and_exit_with_1(tmp_path):
    store(tmp_path / "results", "a", "clean", flags(0.5, 1))
    odd = store(tmp_path / "results", "odd", "clean", RIGHT)
    page = tmp_path / "index.html"
    commands = {
        "show": ["show", "--results", str(tmp_path / "results"), "--beside", "none"],
        "report": ["report", "--results", str(tmp_path / "results"), "--out", str(page), "--beside", "none"],
        "compare": ["report", "--results", str(tmp_path / "results"), "--compare", "a", "odd", "--beside", "none"],
    }
    for command in commands.values():
        assert CliRunner().invoke(main, command).exit_code == 0
    write_result(tmp_path / "results", score(value=99.0)(odd), {"clean": outcomes(RIGHT)})
    for name, command in commands.items():
        found = CliRunner().invoke(main, command)
        assert found.exit_code == 1, name
        assert "its score is 99.000000, and its outcomes give 70.000000" in " ".join(found.output.split()), name
    assert "its score is 99.000000, and its outcomes give 70.000000" in page.read_text()
    assert "≠ 99.0" in page.read_text()


def of_conditions(shares, n, seed=0):
    """Outcomes of conditions in which so many of n images are right."""
    rng = np.random.default_rng(seed)
    return {f"c{k}": outcomes(rng.permutation(n) < share) for k, share in enumerate(shares)}


HONEST = {
    "one image survives, once": (of_conditions([1, 0, 0], 500), weighted),
    "all images but one": (of_conditions([500, 499], 500), weighted),
    "none right": (of_conditions([0, 0], 200), weighted),
    "one condition counts": (of_conditions([0, 100], 200), lambda o: weighted(o, {"c0": 1.0})),
    "one condition counts twice": (of_conditions([120, 100], 200), lambda o: weighted(o, {"c0": 200.0})),
    "errors of one condition": (of_conditions([199], 200), lambda o: weighted(o, counts="wrong")),
    "mCE, one image": ({name: outcomes([False]) for name in boards.CONDITIONS_OF_C}, mean_corruption_error),
    "mCE, all wrong": ({name: outcomes([False] * 20) for name in boards.CONDITIONS_OF_C}, mean_corruption_error),
    "mCE, one image wrong throughout": (
        {name: outcomes(np.arange(200) > 0) for name in boards.CONDITIONS_OF_C},
        mean_corruption_error,
    ),
    "mCE, one image of great weight": (
        {
            name: outcomes((np.arange(100) > 0) & ((np.arange(100) > 30) | (place > 0)))
            for place, name in enumerate(boards.CONDITIONS_OF_C)
        },
        mean_corruption_error,
    ),
}


@pytest.mark.parametrize("case", HONEST.values(), ids=HONEST.keys())
def test_no_honest_result_is_withheld_however_its_images_are_spread(tmp_path, case):
    measured, score = case
    of(tmp_path, "a", measured, score)
    assert only_table(tmp_path).rows[0].cells["clean"].reason == ""


def test_results_of_before_whose_images_are_all_alike_are_read(tmp_path):
    """Their interval had no width."""
    measured = of_conditions([0, 0], 200)
    honest = weighted(measured)
    assert honest.high > honest.value
    of(tmp_path, "a", measured, lambda o: replace(weighted(o), low=honest.value, high=honest.value))
    assert only_table(tmp_path).rows[0].cells["clean"].reason == ""


def test_an_interval_that_is_too_narrow_is_still_named(tmp_path):
    measured = of_conditions([1, 0, 0], 500)
    honest = weighted(measured)
    of(tmp_path, "a", measured, lambda o: replace(weighted(o), low=honest.value, high=honest.value))
    assert "says the interval" in only_table(tmp_path).rows[0].cells["clean"].reason
