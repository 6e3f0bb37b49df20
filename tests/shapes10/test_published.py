"""What is known of shapes10 without drawing it is what is drawn."""

import os
from pathlib import Path

import numpy as np
import pytest

from nsbench.errors import DataError, MissingSplit
from nsbench.shapes10 import Shapes10, make, published
from nsbench.shapes10.published import PublishedShapes10


def test_the_file_is_of_this_version_and_lists_every_split() -> None:
    record = published._record()
    assert record["version"] == make.VERSION, "python -m nsbench.shapes10.published"
    assert list(record["digests"]) == make.split_names()
    assert set(record["varies"]) < set(record["digests"])


@pytest.mark.parametrize("name", ["clean", "v2", "r"])
def test_published_splits_are_the_drawn_ones(name: str) -> None:
    _agree(name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", make.split_names())
def test_every_published_split_is_the_drawn_one(name: str) -> None:
    _agree(name)


def _agree(name: str) -> None:
    drawn, told = Shapes10().split(name), PublishedShapes10().split(name)
    assert np.array_equal(told.ids, drawn.ids)
    assert np.array_equal(told.labels, drawn.labels)
    assert (told.classes, told.origin) == (drawn.classes, drawn.origin)
    assert (told.digest == drawn.digest) or published.varies(name)
    assert published.drawn_here(name) == drawn.digest


def test_a_subset_has_the_digest_of_the_drawn_one() -> None:
    assert PublishedShapes10().split("v2").limited(30).digest == Shapes10().split("v2").limited(30).digest


def test_nothing_is_drawn(own_cache: None) -> None:
    split = PublishedShapes10().split("c/fog/3")
    assert len(split) == make.CORRUPTED
    assert published.drawn_here("c/fog/3") is None
    assert not any(Path(os.environ["NSBENCH_CACHE"]).rglob("*"))
    with pytest.raises(DataError, match="is not drawn"):
        split.load(0)
    with pytest.raises(MissingSplit, match="has no split 'c/fog/9'"):
        PublishedShapes10().split("c/fog/9")


def test_the_file_can_be_made_anew(source: Shapes10) -> None:
    """With few images: the digests are those of the drawn splits."""
    record = published.record_of(source)
    assert list(record) == list(published._record())
    assert record["digests"]["c/fog/3"] == source.split("c/fog/3").digest
    assert record["varies"] == published._record()["varies"]
    assert [f"a/{index:05d}" for index in record["a"]] == source.split("a").ids.tolist()
