"""Images of ImageNet that a submission is on, held against what is published of its sets; and images that are held."""

import hashlib
from dataclasses import replace

import made
import numpy as np
import pytest
from click.testing import CliRunner
from submissions import outcomes, problems, store
from tampering import archived, honest, redone, with_conditions

from nsbench.cli import main
from nsbench.corruptions import ENGINES
from nsbench.data import wnids
from nsbench.data.corrupted import digest_in_memory
from nsbench.data.robustbench_images import ROBUSTBENCH, stems
from nsbench.data.source import digest_of
from nsbench.making import expected
from nsbench.results import outcomes_path, read_results
from nsbench.submission import check_archive
from nsbench.submission.imagenet import origin_problems, set_problems

CLEAN = "c" * 16  # the digest of the whole validation set


def val(n=50_000):
    """Labels by id, equally many of each class, as the folders of val have them."""
    return {f"{wnids.wnids()[k % 1000]}/ILSVRC2012_val_{k:08}.JPEG": k % 1000 for k in range(n)}


def looked_at(split, labels, limit=None, own=None, **changes):
    condition = made.condition("x", split=split, n=len(labels), **({"origin": "official"} | changes))
    return origin_problems(condition, labels, bool(own or limit), [CLEAN]) or set_problems(
        condition, labels, own, limit
    )


@pytest.fixture(autouse=True)
def _own_val(monkeypatch):
    """The published labels are those of `val`."""
    lines = sorted(f"{one.rpartition('/')[2].removesuffix('.JPEG')} {label}\n" for one, label in val().items())
    monkeypatch.setattr(expected, "VAL_LABELS", hashlib.sha256("".join(lines).encode()).hexdigest())


def test_whole_sets_and_stable_subsets_are_as_published():
    assert looked_at("clean", val()) == []
    assert looked_at("clean", val(2500), limit=2500) == []
    assert looked_at("clean", val(2500), own=5000, limit=2500) == []
    assert looked_at("clean", val(5000), own=5000) == []
    assert looked_at("clean", dict(list(val().items())[1:]), unreadable={"x": "cannot be decoded"}) == []
    assert looked_at("clean", val(2500), limit=2500, available=50_000) == []
    assert looked_at("clean", val(2500), own=5000, limit=2500, available=5000) == []
    assert looked_at("birds", {"a": 7}) == []  # no published set


@pytest.mark.parametrize(
    ("labels", "limits", "problem"),
    [
        (val(45_850), {}, "has 45,850 images, and the published set has 50,000; a part of a set"),
        (val(400), {"limit": 500}, "has 400 images, and the published set has 50,000, of which the limit leaves 500"),
        (val(1000), {"limit": 500}, "has 1,000 images"),
        (val(600), {"limit": 1000, "own": 500}, "has 600 images"),
        (val() | {"n01440764/ILSVRC2012_val_00000000.JPEG": 5}, {}, "1 images have another label than their folder's"),
        ({f"ILSVRC2012_val_{k:08}.JPEG": (k + 1) % 1000 for k in range(50_000)}, {}, "published validation set"),
        (
            {f"{k}.png": 0 if k < 500 else k % 1000 for k in range(1000)},
            {"limit": 1000},
            "500 classes have more or fewer than their share of 1,000 images, such as class 0 with 500",
        ),
    ],
)
def test_what_cannot_be_of_a_published_set_is_named(labels, limits, problem):
    (line,) = looked_at("clean", labels, **limits)
    assert problem in line


def test_a_limit_is_not_the_size_of_a_set():
    (line,) = looked_at("clean", val(2500), limit=2500, available=2500)
    assert "says that 2,500 images were available, and without the run's limit there are 50,000" in line


def test_numbered_folders_of_v2_are_labels():
    labels = {f"{k % 1000}/{k}.jpeg": k % 1000 for k in range(10_000)}
    assert looked_at("v2", labels) == []
    assert "another label than their folder's" in looked_at("v2", labels | {"7/7.jpeg": 8})[0]
    assert "has 9,170 images, and the published set has 10,000" in looked_at("v2", dict(list(labels.items())[:9170]))[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("limit", [None, 1000])
def test_corrupted_images_made_in_memory_are_not_official(engine, limit):
    labels, whole = val(limit or 50_000), digest_in_memory(CLEAN, "fog", 3, engine)
    digest = digest_of(whole, *labels) if limit else whole
    assert looked_at("c/fog/3", labels, limit, data_digest=digest, origin="generated-memory") == []
    (line,) = looked_at("c/fog/3", labels, limit, data_digest=digest)
    assert "origin is 'official', and its data digest is that of images made in memory" in line
    assert looked_at("c/fog/4", labels, limit, data_digest=digest) == []


@pytest.mark.parametrize(
    ("split", "changes", "problem"),
    [
        ("clean", {"origin": "embedded"}, "origin is 'embedded', which is none of official, generated-jpeg"),
        ("clean", {"origin": "generated-memory"}, "only C is made in memory"),
        ("transfer/8", {}, "origin is 'official', and not 'attacked on NAME (weights None)'"),
        (
            "transfer/8",
            {"origin": f"attacked on vit (weights {'1' * 16})", "surrogate_digest": "2" * 16},
            f"and not 'attacked on NAME (weights {'2' * 16})'",
        ),
    ],
)
def test_origins_that_cannot_be_are_named(split, changes, problem):
    (line,) = looked_at(split, val(), **changes)
    assert problem in line


def imagenet(folder, limit=1000, **changes):
    """One result on clean images of ImageNet."""
    labels = val(limit)
    ids, values = np.array(list(labels)), np.array(list(labels.values()))

    def measure(condition, seed):
        predictions = np.where(np.arange(limit) % 10, values, (values + 1) % 1000)
        confidence = np.full(limit, 0.75, "f4")
        top5 = (predictions[:, None] + np.arange(5)) % 1000
        probability = np.where(predictions == values, confidence, np.float32(0.125)).astype("f4")
        one = outcomes(condition, seed)
        return replace(one, ids=ids, labels=values, predictions=predictions, label_probability=probability,
                       confidence=confidence, top5=top5)  # fmt: skip

    def change(result):
        (one,) = result.conditions
        one = replace(one, **({"origin": "official", "data_digest": "9" * 16, "available": 50_000} | changes))
        own = replace(result.provenance, limit=limit, data_digest=digest_of(one.data_digest))
        return replace(result, source="imagenet", conditions=(one,), provenance=own)

    store(folder, "clean", change=change, measure=measure)
    return folder


def test_images_that_nothing_here_has_are_named_and_need_a_switch(tmp_path):
    path = archived(imagenet(tmp_path / "results"), tmp_path / "x.zip")
    (line,) = problems(path)
    assert "no known set and no held result has the images of 'clean' here; accept such data with" in line
    checked = check_archive(path, allow_unknown_data=True)
    assert checked.accepted
    assert "no held result has the images of 'clean'" in checked.unknown[0]
    held = read_results(tmp_path / "results")[0]
    assert problems(path, held=held) == ()
    other = archived(imagenet(tmp_path / "other", data_digest="8" * 16), tmp_path / "y.zip")
    assert "no known set and no held result" in problems(other, held=held)[0]


def test_held_outcomes_that_cannot_be_read_are_named(tmp_path):
    path = archived(imagenet(tmp_path / "results"), tmp_path / "x.zip")
    held = read_results(tmp_path / "results")[0]
    damaged = outcomes_path(held[0])
    damaged.write_bytes(damaged.read_bytes()[:-1])
    checked = check_archive(path, held=held, allow_unknown_data=True)
    assert not checked.accepted
    assert checked.not_held_against == (
        f"{damaged}: differs from the digest in its result; it was changed or half copied",
    )


def test_held_data_have_one_origin(tmp_path):
    held = read_results(imagenet(tmp_path / "results"))[0]
    path = archived(imagenet(tmp_path / "other", origin="generated-png"), tmp_path / "x.zip")
    assert any(
        "origin is 'generated-png', and 'official' in the leaderboard's" in one for one in problems(path, held=held)
    )


def test_results_of_one_archive_agree_on_data_that_nothing_is_known_of(tmp_path):
    folder = honest(tmp_path / "results", change=lambda one: replace(one, source="birds"))
    assert problems(archived(folder, tmp_path / "x.zip"), allow_unknown_data=True) == ()
    redone("fgsm", change=with_conditions(origin="elsewhere"))(folder)
    found = problems(archived(folder, tmp_path / "x.zip"), allow_unknown_data=True)
    assert any("in another result of this archive, of suite 'clean'" in line for line in found)


def test_probabilities_belong_to_a_result(tmp_path):
    """Only schema 1 kept none."""
    folder = honest(tmp_path / "results")
    redone("clean", lambda one: replace(one, label_probability=None, confidence=None, top5=None))(folder)
    (line,) = problems(archived(folder, tmp_path / "x.zip"))
    assert "lack label_probability, confidence or top5" in line


def test_the_command_line_has_the_switch(tmp_path):
    path, board = archived(imagenet(tmp_path / "results"), tmp_path / "x.zip"), str(tmp_path / "board")
    (tmp_path / "board").mkdir()

    def said(command, *options):
        done = CliRunner().invoke(main, ["submit", command, str(path), "--results", board, *options])
        return done.exit_code, done.output

    code, text = said("check")
    assert code == 1
    assert "no known set and no held result has the images of 'clean' here; accept such data with --allow" in text
    code, text = said("check", "--allow-unknown-data")
    assert code == 0
    assert "unknown data: results/imagenet/vit/ns/clean.seed0.json: no known set and no held result has" in text
    assert said("merge")[0] == 1
    assert said("merge", "--allow-unknown-data")[0] == 0
    assert said("check")[0] == 0  # now they are held


def test_the_images_of_robustbench_are_all_of_its_list():
    labels = dict.fromkeys(stems(), 3)
    condition = made.condition(split=ROBUSTBENCH, origin="official")
    assert set_problems(condition, labels, None, None) == []
    fewer = dict(list(labels.items())[1:])
    assert set_problems(condition, fewer, None, None) == ["its images are not the 5,000 of RobustBench"]
    assert set_problems(condition, fewer, None, 4999) == []
