"""Outcomes of a submitted result: read without trust, and run again where the weights are at hand."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from submissions import N, as_npz, only, outcomes, problems, store, with_npz
from tampering import archived

from nsbench import registry
from nsbench.cli import main
from nsbench.errors import ResultError
from nsbench.models import load_model
from nsbench.results import read_outcomes, read_results
from nsbench.run.opening import open_source
from nsbench.submission import Limits, Rerunner, check_archive, pack, sample


def tampered(tmp_path, change):
    """An archive whose outcomes were changed by somebody who made all digests and figures anew."""

    def measure(condition, seed):
        return change(outcomes(condition, seed))

    store(tmp_path / "results", measure=measure)
    return archived(tmp_path / "results", tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda o: replace(o, predictions=np.where(o.correct, o.labels, 10)), "predictions outside the 10 classes"),
        (lambda o: replace(o, predictions=np.where(o.correct, o.labels, -1)), "predictions outside the 10 classes"),
        (lambda o: replace(o, ids=np.array([f"{i}\n" for i in range(N)])), "control characters"),
        (lambda o: replace(o, predictions=o.labels), "that the attack made right"),
        (lambda o: replace(o, extra={**o.extra, "linf": o.extra["linf"] + 1}), "linf norms beyond the budget"),
        (lambda o: replace(o, extra={**o.extra, "linf": o.extra["linf"] * np.nan}), "negative or not finite"),
        (lambda o: replace(o, extra={**o.extra, "l2": -o.extra["l2"]}), "negative or not finite"),
        (lambda o: replace(o, confidence=None), "lack label_probability, confidence or top5"),
        (lambda o: replace(o, confidence=o.confidence + 1), "confidence outside [0, 1]"),
        (lambda o: replace(o, label_probability=o.label_probability * np.nan), "label_probability outside [0, 1]"),
        (lambda o: replace(o, label_probability=np.ones(N, "f4")), "label_probability above confidence"),
        (lambda o: replace(o, label_probability=o.label_probability / 2), "whose label_probability is not their conf"),
        (lambda o: replace(o, top5=(o.top5 + 1) % 10), "whose first of top5 is not their prediction"),
        (lambda o: replace(o, top5=np.repeat(o.top5[:, :1], 5, axis=1)), "a class twice in top5"),
        (lambda o: replace(o, top5=o.top5 + 6), "top5 outside the 10 classes"),
        (lambda o: replace(o, top5=o.top5[:, :4]), "4 best classes of each image"),
    ],
)
def test_impossible_outcomes_are_named(tmp_path, change, problem):
    found = problems(tampered(tmp_path, change))
    assert any(problem in line for line in found), found


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda o: replace(o, ids=np.array(["same"] * N)), "names an image twice"),
        (lambda o: replace(o, extra={**o.extra, "linf": o.extra["linf"][:3]}), "other lengths"),
        (lambda o: replace(o, extra={**o.extra, "odd": np.array(["x"] * N)}), "of a form that no outcomes file has"),
        (lambda o: replace(o, ids=np.array([f"{i}\x1b" for i in range(N)])), "control characters"),
        (lambda o: o, ""),
    ],
)
def test_malformed_arrays_are_named(packed, change, problem):
    conditions = registry.suites["fgsm"].conditions()
    content = as_npz({c.name: change(outcomes(c, k)) for k, c in enumerate(conditions)})
    found = problems(with_npz(packed.path, content))
    assert any(problem in line for line in found) if problem else all("extra" not in line for line in found), found


def test_predictions_of_a_subset_are_inside_it(tmp_path):
    store(tmp_path / "results", "imagenet_a", change=lambda r: replace(r, source="imagenet"))
    found = problems(pack(tmp_path / "results", tmp_path / "x.zip").path)
    assert "outside the 200 classes of split 'a'" in found[0]


def test_pickled_and_malformed_outcomes_are_not_loaded(packed):
    for arrays in ({"conditions": np.array(["a"], dtype=object)}, {"surprise": np.zeros(3)}, {}):
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        found = problems(with_npz(packed.path, buffer.getvalue()))
        assert any("outcomes" in line for line in found), found


def test_a_bomb_inside_the_outcomes_is_refused(packed):
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, **{"conditions": np.array(["a"]), "sets": np.zeros(1, int), "set0.ids": np.zeros(10_000_000, "S1")}
    )
    checked = check_archive(with_npz(packed.path, buffer.getvalue()), limits=Limits(unpacked=1 << 20))
    assert "would unpack to" in checked.problems[0]


def test_the_same_data_have_the_same_labels(tmp_path):
    """Of a source that nothing is known of but the results that are held."""

    def packed(folder, measure=outcomes):
        store(folder, change=lambda result: replace(result, source="birds"), measure=measure)
        return pack(folder, folder / "x.zip").path

    def shifted(condition, seed):
        one = outcomes(condition, seed)
        names = ("predictions_clean", "predictions_uint8")
        extra = {**one.extra, **{name: (one.extra[name] + 1) % 10 for name in names}}
        columns = {name: (getattr(one, name) + 1) % 10 for name in ("labels", "predictions", "top5")}
        return replace(one, **columns, extra=extra)

    first, other = packed(tmp_path / "first"), packed(tmp_path / "other", shifted)
    held = read_results(tmp_path / "first")[0]
    assert "no known set and no held result has the images of 'clean'" in problems(first)[0]
    assert problems(first, held=held) == ()
    assert problems(other, allow_unknown_data=True) == ()
    assert "other images or labels than the leaderboard's" in problems(other, held=held)[0]


def test_a_random_sample_is_run_again(packed):
    asked = []

    def honest(result, wanted):
        asked.append(wanted)
        return {name: only(outcomes_by_suite[result.suite][name], ids) for name, ids in wanted.items()}

    outcomes_by_suite = {
        suite: {c.name: outcomes(c, k) for k, c in enumerate(registry.suites[suite].conditions())}
        for suite in ("clean", "fgsm")
    }
    checked = check_archive(packed.path, rerun=honest, sample_size=5)
    assert checked.accepted
    assert checked.rerun == sum(len(ids) for wanted in asked for ids in wanted.values())
    assert all(len(ids) == 5 for wanted in asked for ids in wanted.values())

    def other(result, wanted):
        return {name: replace(one, predictions=one.predictions + 1) for name, one in honest(result, wanted).items()}

    assert "images that were run again come out otherwise" in check_archive(packed.path, rerun=other).problems[0]

    def less_sure(result, wanted):
        return {name: replace(one, confidence=one.confidence / 2) for name, one in honest(result, wanted).items()}

    (line,) = check_archive(packed.path, rerun=less_sure).problems  # where nothing was attacked
    assert "clean.seed0.json: 20 of 20 images that were run again come out otherwise" in line

    def elsewhere(result, wanted):
        raise ResultError("other weights")

    away = check_archive(packed.path, rerun=elsewhere)
    assert (away.accepted, away.rerun, len(away.not_rerun)) == (True, 0, 2)
    assert away.not_rerun[0].endswith("clean.seed0.json: other weights")


def test_weights_at_hand_are_run_again(tmp_path):
    run = ["run", "--method", "pretrained", "--suite", "clean,fgsm", "--limit", "24", "--results"]
    assert CliRunner().invoke(main, [*run, str(tmp_path / "results")]).exit_code == 0
    packed = pack(tmp_path / "results", tmp_path / "own.zip")
    (tmp_path / "none").mkdir()
    done = CliRunner().invoke(
        main,
        [
            "submit",
            "check",
            str(packed.path),
            "--rerun",
            "5",
            "--sample-seed",
            "7",
            "--results",
            str(tmp_path / "none"),
        ],
    )
    assert done.exit_code == 0, done.output
    conditions = 1 + len(registry.suites["fgsm"].conditions())
    assert f"{5 * conditions} images were run again and agree (sample seed 7); 0 results could not" in done.output

    elsewhere = ["submit", "check", str(packed.path), "--rerun", "5", "--results", str(tmp_path / "none")]
    done = CliRunner().invoke(main, [*elsewhere, "--normalisation", "imagenet"])
    assert done.exit_code == 1, "nothing was run again"
    digest = read_results(tmp_path / "results")[0][0].provenance.weights_digest
    assert (
        "nothing was run again: it needs the file of the weights, --checkpoint FILE: those of pretrained" in done.output
    )
    assert f"digest {digest}" in done.output

    source = open_source("shapes10")
    other = load_model("vit_shapes10")
    with torch.no_grad():
        other.vit.head.weight.copy_(other.vit.head.weight.roll(1, 0))
    rerunner = Rerunner(other, source)
    stranger = check_archive(packed.path, rerun=rerunner, sample_size=5)
    assert stranger.accepted
    assert all("its weights have digest" in line for line in stranger.not_rerun)
    rerunner.digest = read_results(tmp_path / "results")[0][0].provenance.weights_digest
    lying = check_archive(packed.path, rerun=rerunner, sample_size=5)
    assert "5 of 5 images that were run again come out otherwise; at most 2 % may differ" in lying.problems[0]
    imagenet_like = Rerunner(load_model("vit_shapes10", normalisation="imagenet"), source)
    assert "normalises by mean" in check_archive(packed.path, rerun=imagenet_like, sample_size=5).not_rerun[0]


def test_samples_depend_on_the_seed_and_the_result(packed, tmp_path):
    result = read_results(tmp_path / "results")[0][0]
    stored = read_outcomes(result)
    assert sample(result, stored, 5) == sample(result, stored, 5)
    assert sample(result, stored, 5) != sample(result, stored, 5, seed=1)
    assert {len(ids) for ids in sample(result, stored, 10**6).values()} == {N}
