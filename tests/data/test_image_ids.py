"""One image, one id: in whatever container, format and folder its copy lies."""

import pytest

from nsbench.data.image_ids import canonical_ids, file_stem, known_as


@pytest.mark.parametrize(
    "name",
    [
        "n01440764/ILSVRC2012_val_00000293.JPEG",  # class folders
        "ILSVRC2012_val_00000293.JPEG",  # the official archive
        "ILSVRC2012_val_00000293.png",  # DAmageNet
        "ILSVRC2012_val_00000293_n01440764.JPEG",  # Hugging Face's copy
        "data/val/n01440764/ILSVRC2012_val_00000293.jpg",
        "n01440764/images/ILSVRC2012_val_00000293.JPEG",  # Tiny-ImageNet's folders
        "n01440764/ILSVRC2012_val_00000293",  # a key of older shards
        "ILSVRC2012_val_00000293",
    ],
)
def test_the_same_image_wherever_it_lies(name: str) -> None:
    assert canonical_ids([name, "other.JPEG"])[0] == "ILSVRC2012_val_00000293"


def test_names_that_start_again_in_every_class_keep_their_class() -> None:
    names = ["n01440764/art_0.jpg", "n01443537/art_0.jpg"]
    classes = ["n01440764", "n01443537"]
    expected = ["n01440764/art_0", "n01443537/art_0"]
    assert canonical_ids(names).tolist() == expected
    assert canonical_ids(["art_0.jpg", "art_0.jpg"], classes).tolist() == expected  # a table knows the class
    assert canonical_ids(expected).tolist() == expected


def test_what_nothing_tells_apart_keeps_its_whole_name() -> None:
    assert canonical_ids(["a/0.png", "b/0.png"]).tolist() == ["a/0", "b/0"]
    assert canonical_ids(["n01440764/a.png", "n01440764/a.JPEG"]).tolist() == ["n01440764/a.png", "n01440764/a.JPEG"]


def test_what_is_no_file_is_its_own_id() -> None:
    """Rows of a table that keeps no names, and the images of a source that draws its own."""
    for ids in (["val-00000-of-00014/12", "val-00001-of-00014/12"], ["clean/00012", "clean/00013"]):
        assert canonical_ids(ids, ["n01440764"] * 2).tolist() == ids


def test_only_the_suffix_of_a_picture_is_one() -> None:
    name = "0.000116_digital clock _ digital clock_0.865662"
    assert canonical_ids([f"n01440764/{name}.jpg"]).tolist() == [name]
    assert canonical_ids([name]).tolist() == [name]
    assert canonical_ids(["n01440764_10026.JPEG"]).tolist() == ["n01440764_10026"]


@pytest.mark.parametrize(
    ("image_id", "stem"), [("n01440764/art_0", "art_0"), ("n01440764/a.png", "a"), ("0.25", "0.25")]
)
def test_what_a_file_made_of_an_image_is_called(image_id: str, stem: str) -> None:
    assert file_stem(image_id) == stem


@pytest.mark.parametrize(
    "names",
    [
        ["n01440764/a_0.jpg", "n01443537/b_1.jpg"],
        ["n01440764/a.jpg", "n01443537/a.png"],
        ["x/a.png", "y/a.png"],
        ["n01440764/a.png", "n01440764/a.jpg"],
        ["t/1", "t/2"],
    ],
)
def test_one_image_of_an_old_result_is_found_under_its_id(names: list[str]) -> None:
    ids = canonical_ids(names).tolist()
    for name, image_id in zip(names, ids, strict=True):
        assert [one for one in ids if one in known_as(name)] == [image_id]
