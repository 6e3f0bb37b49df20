"""shapes10: a picture is a function of its split and index, and splits mean what they say."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from nsbench.errors import MissingSplit
from nsbench.shapes10 import Shapes10, make, splits
from nsbench.shapes10.scenes import draw
from nsbench.shapes10.shapes import CLASS_NAMES, SHAPES
from nsbench.shapes10.surrogate import load_network, predict

SIZES = {**{name: drawn.count for name, drawn in splits.DRAWN.items()}, "a": make.HARD, "c": make.CORRUPTED}


# --- pictures ---------------------------------------------------------------------------------------------------


def test_a_picture_depends_on_its_split_and_index_alone() -> None:
    together = splits.render("clean", np.array([3, 7, 5, 120]))
    assert np.array_equal(together[1], splits.render("clean", np.array([7]))[0])
    assert not np.array_equal(together[1], splits.render("train", np.array([7]))[0])


@pytest.mark.parametrize("label", range(10), ids=CLASS_NAMES)
def test_distances_have_slope_one_and_a_shape_of_fair_size(label: int) -> None:
    axis = np.linspace(-1.5, 1.5, 301)
    x, y = np.broadcast_to(axis, (2, 301, 301)), np.broadcast_to(axis[:, None], (2, 301, 301))
    away = SHAPES[label](x, y, np.array([0.0, 1.0])[:, None, None])
    inside = (away < 0).mean(axis=(1, 2)) * 9.0  # area in squared radii
    assert ((inside > 0.7) & (inside < 3.0)).all()
    down, across = np.gradient(away, axis[1] - axis[0], axis=(1, 2))
    slope = np.hypot(down, across)
    assert slope.max() < 1.42  # a distance never changes faster; kinks seen across one step allow sqrt(2)
    assert np.median(slope) == pytest.approx(1.0, abs=0.01)


# --- splits -----------------------------------------------------------------------------------------------------


def test_every_split_of_the_vocabulary_is_there(source: Shapes10) -> None:
    names = source.splits()
    assert set(make.PLAIN_SPLITS) <= set(names)
    assert len([name for name in names if name.startswith("c/")]) == 75


def test_sizes_of_the_real_splits() -> None:
    assert SIZES == {
        "train": 20_000, "clean": 1000, "v2": 1000, "a": 500, "r": 600, "sketch": 1000, "stylized": 1000, "c": 500,
    }  # fmt: skip


def test_a_and_r_have_six_classes_four_in_common(source: Shapes10) -> None:
    a, r = source.split("a"), source.split("r")
    assert a.classes is not None
    assert r.classes is not None
    assert (len(a.classes), len(r.classes), len(set(a.classes) & set(r.classes))) == (6, 6, 4)
    assert set(a.labels) == set(a.classes)
    assert set(r.labels) == set(r.classes)


def test_every_image_of_a_fools_the_reference(source: Shapes10) -> None:
    a = source.split("a")
    assert (predict(load_network("reference"), a.images, splits.A_CLASSES) != a.labels).all()
    assert len(a) == 18
    assert np.bincount(a.labels, minlength=10).max() == 3


def test_reference_and_surrogate_know_clean_images() -> None:
    indices = np.arange(200)
    images, labels = splits.render("clean", indices), splits.labels_of(splits.DRAWN["clean"], indices)
    for name in ("reference", "surrogate"):
        assert (predict(load_network(name), images, splits.ALL) == labels).mean() >= 0.95


def test_damagenet_is_clean_within_its_bound_and_fools_the_surrogate(source: Shapes10) -> None:
    clean, damaged = source.split("clean"), source.split("damagenet")
    assert np.array_equal(clean.labels, damaged.labels)
    change = np.abs(damaged.images.astype(int) - clean.images.astype(int))
    assert 20 <= change.max() <= 25
    assert (predict(load_network("surrogate"), damaged.images, splits.ALL) == damaged.labels).mean() < 0.1


def test_sketches_are_black_on_white(source: Shapes10) -> None:
    images = source.split("sketch").images
    assert (images[..., 0] == images[..., 1]).all()
    assert (images[..., 0] == images[..., 2]).all()
    assert np.median(images) == 255
    assert (images.min(axis=(1, 2, 3)) < 128).all()


def test_stylized_never_wears_the_pattern_of_its_class() -> None:
    indices = np.arange(300)
    drawn = splits.DRAWN["stylized"]
    labels = splits.labels_of(drawn, indices)
    scene = draw("stylized", indices, labels, drawn.style)
    assert (scene.fill_pattern != labels).all()
    assert (scene.fill_pattern < 10).all()


def test_v2_is_not_clean(source: Shapes10) -> None:
    assert not np.array_equal(source.split("v2").images, source.split("clean").images)


def test_corrupted_splits_keep_the_ids_of_clean(source: Shapes10) -> None:
    clean, chosen = source.split("clean"), source.split("clean").limited(4)
    mild, strong = source.split("c/gaussian_noise/1"), source.split("c/gaussian_noise/5")
    assert list(mild.ids) == list(chosen.ids) == list(strong.ids)
    assert list(mild.labels) == list(chosen.labels)
    rows = [list(clean.ids).index(image_id) for image_id in mild.ids]
    error = [np.abs(split.images.astype(int) - clean.images[rows]).mean() for split in (mild, strong)]
    assert 0 < error[0] < error[1]
    assert all(make.path_of(name).exists() for name in source.splits() if name.startswith("c/"))  # made together


def test_split_loads_rgb_and_travels_light(source: Shapes10) -> None:
    split = source.split("clean")
    packed = pickle.dumps(split)
    assert len(packed) < 20_000
    copy = pickle.loads(packed)
    image = copy.load(3)
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size, split.origin) == ("RGB", (48, 48), "embedded")
    assert np.array_equal(np.asarray(image), splits.render("clean", np.array([3]))[0])
    assert copy.digest == split.digest


def test_unknown_split_lists_the_known_ones(source: Shapes10) -> None:
    with pytest.raises(MissingSplit, match=r"no split 'val'; known: train, clean, v2.*fog"):
        source.split("val")
