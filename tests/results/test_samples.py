"""Pictures beside results: which images are kept, what the files hold, and that results do not need them."""

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from boards import flags, store
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_evaluate import model, right  # noqa: F401  (fixtures)

from nsbench.errors import ResultError
from nsbench.leaderboard import build
from nsbench.leaderboard.samples import Album
from nsbench.results import read_result, read_results, samples_path
from nsbench.results.samples import (
    CONDITIONS,
    EACH,
    MAGNIFIED,
    SIDE,
    Sampler,
    pack_samples,
    pictures_of,
    place,
    read_samples,
    thumbnail,
)
from nsbench.run.evaluate import evaluate
from nsbench.types import Condition, ThreatModel


def picture(content):
    """(3, H, W) in [0, 1]."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1) / 255


def offered(sampler, ids, hits):
    """Images of one grey each, all with label 0."""
    grey = np.linspace(0, 1, len(ids))[:, None, None, None] * np.ones((1, 3, 8, 8))
    sampler.offer(ids, np.zeros(len(ids), dtype=int), np.where(hits, 0, 1), grey)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 60), st.randoms())
@settings(max_examples=25, deadline=None)
def test_the_choice_is_by_id_alone(hits, batch, random):
    ids = [f"image{k}" for k in range(len(hits))]
    expected = [
        sorted((i for i, hit in zip(ids, hits, strict=True) if hit == kind), key=place)[:2] for kind in (False, True)
    ]
    order = list(range(len(ids)))
    random.shuffle(order)
    sampler = Sampler(each=2)
    for start in range(0, len(ids), batch):
        part = order[start : start + batch]
        offered(sampler, [ids[k] for k in part], np.array([hits[k] for k in part]))
    assert [one.id for one in sampler.samples] == expected[0] + expected[1]
    assert all(one.right == hits[ids.index(one.id)] for one in sampler.samples)


def test_a_long_suite_keeps_pictures_of_conditions_evenly_among_it():
    names = [f"{k // 5}/{k % 5 + 1}" for k in range(75)]
    chosen = pictures_of(names)
    assert list(chosen) == [f"{k}/3" for k in range(CONDITIONS)]
    assert set(chosen.values()) == {1}
    assert pictures_of(["a", "b"]) == {"a": EACH, "b": EACH}


def test_thumbnails_show_the_image():
    image = np.zeros((3, 40, 20))
    image[0, :20] = 1
    small = picture(thumbnail(image))
    assert small.shape == (3, 40, 20)
    np.testing.assert_allclose(small[:, [5, 35], 10], image[:, [5, 35], 10], atol=0.06)
    wide = picture(thumbnail(np.repeat(np.repeat(image, 10, axis=1), 10, axis=2)))
    assert wide.shape == (3, SIDE, SIDE // 2)
    np.testing.assert_allclose(wide[:, [10, 90], 20], image[:, [5, 35], 10], atol=0.06)


def test_evaluation_keeps_what_it_saw(model, right):  # noqa: F811
    condition = Condition("eps", attack="fgsm", threat=ThreatModel("linf", 8 / 255))
    silent = evaluate(model, right, condition)
    one = evaluate(model, right, condition, pictures=EACH, batch_size=7)
    outcomes, samples = one.outcomes, one.samples
    np.testing.assert_array_equal(outcomes.predictions, silent.outcomes.predictions)
    assert samples
    assert not silent.samples
    found = {image_id: k for k, image_id in enumerate(outcomes.ids.tolist())}
    for one in samples:
        k = found[one.id]
        assert (one.label, one.prediction) == (outcomes.labels[k], outcomes.predictions[k])
        assert (one.linf, one.l2) == (
            pytest.approx(outcomes.extra["linf"][k], abs=1e-6),
            pytest.approx(outcomes.extra["l2"][k], abs=1e-6),
        )
        change = picture(one.change) - 0.5
        assert np.abs(change).max() == pytest.approx(MAGNIFIED * 8 / 255, abs=0.004)
        assert (change**2).sum() ** 0.5 == pytest.approx(MAGNIFIED * one.l2, rel=0.01)
    plain = evaluate(model, right, Condition("clean"), pictures=EACH)
    clean = plain.outcomes
    wrong = [i for i, hit in zip(clean.ids.tolist(), clean.correct, strict=True) if not hit]
    assert [one.id for one in plain.samples if not one.right] == sorted(wrong, key=place)[:4]
    assert all(one.change is None for one in plain.samples)


@pytest.fixture
def kept(tmp_path):
    """A stored result with samples."""
    result = store(tmp_path, "a", "clean", flags(0.5, 0))
    sampler = Sampler(EACH)
    offered(sampler, [f"clean/{k:05d}" for k in range(20)], np.arange(20) % 2 == 0)
    samples_path(result).write_bytes(pack_samples(result.identity, {"clean": sampler.samples}, ["cat", "dog", "eel"]))
    return result


def test_samples_are_read_as_written_and_belong_to_one_measurement(kept):
    result = read_result(kept.path)
    found = read_samples(result)
    assert [one.right for one in found.samples["clean"]] == [False] * 4 + [True] * 4
    assert found.class_names == {0: "cat", 1: "dog"}
    assert picture(found.samples["clean"][0].clean).shape == (3, 8, 8)
    path = samples_path(kept)
    before = path.read_bytes()
    sampler = Sampler(EACH)
    offered(sampler, [f"clean/{k:05d}" for k in range(20)], np.arange(20) % 2 == 0)
    again = pack_samples(kept.identity, {"clean": sampler.samples}, ["cat", "dog", "eel"])
    assert again == before  # the same samples, the same bytes
    path.write_bytes(pack_samples("another measurement", {"clean": sampler.samples}))
    assert not read_samples(result).samples
    path.unlink()
    assert not read_samples(result).samples
    assert read_results(kept.path.parent)[1] == []


def test_lost_and_won_images_of_two_rows(kept):
    folder = kept.path.parents[3]
    base = flags(0.5, 0)
    other = base.copy()
    swapped = np.flatnonzero(base)[:3].tolist(), np.flatnonzero(~base)[:2].tolist()
    other[swapped[0]], other[swapped[1]] = False, True
    store(folder, "b", "clean", other)
    for seed in (0, 1):
        store(folder, "c", "clean", other if seed else base, seed=seed)
    (table,) = build(*read_results(folder)).tables
    a, b, c = (next(k for k, row in enumerate(table.rows) if row.method == method) for method in "abc")
    album = Album(table)
    found = album.swings("clean", a, b)
    assert (found.images_won, found.images_lost) == (3, 2)
    sampled = {one.id for one in read_samples(kept).samples["clean"]}
    assert {one.id for one in found.won} == {f"clean/{k:05d}" for k in swapped[0]} & sampled, "with a picture"
    assert {one.id for one in found.lost} == {f"clean/{k:05d}" for k in swapped[1]} & sampled
    for one in found.won:
        assert (one.first, one.second, one.change, one.label, one.predictions) == (100, 0, 100, "cat", ("cat", "dog"))
    assert all(one.clean for one in (*found.won, *found.lost))
    half = album.swings("clean", a, c)
    assert {(one.change, one.predictions) for one in half.won} == {(50, None)}
    assert not album.swings("clean", a, a).won
    (gallery,) = album.galleries(table.rows[a], "clean")
    assert (gallery.condition, gallery.threat, len(gallery.pictures)) == ("clean", "", 8)
    assert gallery.pictures[0].prediction == "dog"
    content = base64.b64decode(gallery.pictures[0].clean.removeprefix("data:image/webp;base64,"))
    assert picture(content).shape == (3, 8, 8)
    assert album.galleries(table.rows[b], "clean") == []
    samples_path(kept).write_bytes(b"")
    broken = Album(table)
    assert broken.galleries(table.rows[a], "clean") == []
    assert "its samples cannot be read" in broken.problems[0]


@pytest.mark.parametrize("damage", ["no zip", "no picture", "html", "too large", "no json"])
def test_broken_samples_are_named(kept, damage):
    path = samples_path(kept)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    if damage == "no zip":
        path.write_bytes(b"PK nothing")
    else:
        if damage == "no picture":
            del files["0.0.clean.webp"]
        if damage == "html":
            files["0.0.clean.webp"] = b"<svg onload=alert(1)>"
        if damage == "too large":
            files["0.0.clean.webp"] = files["0.0.clean.webp"] + bytes(1 << 17)
        if damage == "no json":
            files["samples.json"] = json.dumps({"format": 1}).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    with pytest.raises(ResultError, match=r"samples\.\w+\.zip: its samples cannot be read"):
        read_samples(kept)
