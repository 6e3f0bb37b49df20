"""ImageNet trees: which folder is which set, labels from the official list, and clear words about broken trees."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsbench.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from nsbench.data import layouts, wnids
from nsbench.data.decode import decode
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.stored import Entry, FolderSplit
from nsbench.errors import CorruptImage, DataError, MissingSplit, UnknownName, UsageError
from nsbench.run.opening import open_source

TENCH, GOLDFISH, SHARK, TISSUE = (wnids.wnids()[label] for label in (0, 1, 2, 999))


def save(path: Path, colour: tuple[int, int, int] = (200, 40, 90), size: tuple[int, int] = (40, 36)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """val of three classes that are no neighbours, so that labels from folder positions would be wrong."""
    for wnid in (TISSUE, SHARK, TENCH):
        for k in (2, 1):
            save(tmp_path / "val" / wnid / f"ILSVRC2012_val_{k:08}.JPEG")
    return tmp_path


# --- the list of classes ---------------------------------------------------------------------------------------------


def test_the_thousand_classes() -> None:
    assert len(wnids.wnids()) == len(set(wnids.wnids())) == 1000
    assert list(wnids.wnids()) == sorted(wnids.wnids())
    assert (TENCH, TISSUE) == ("n01440764", "n15075141")
    assert wnids.names()[1] == "goldfish, Carassius auratus"
    assert wnids.label_of()[SHARK] == 2


def test_subsets_of_a_and_r() -> None:
    a, r = wnids.subset("a"), wnids.subset("r")
    assert a is not None
    assert r is not None
    for labels in (a, r):
        assert len(set(labels)) == 200
        assert list(labels) == sorted(labels)
        assert 0 <= labels[0] <= labels[-1] < 1000
    assert len(set(a) & set(r)) == 86
    assert wnids.subset("sketch") is None


def test_lists_equal_the_shared_ones(shared_data: Path) -> None:
    lines = (shared_data / "synset_words.txt").read_text().splitlines()
    assert [f"{wnid} {name}" for wnid, name in zip(wnids.wnids(), wnids.names(), strict=True)] == lines
    for split in ("a", "r"):
        published = shared_data.parent / "published" / f"imagenet_{split}_indices.txt"
        assert wnids.subset(split) == tuple(map(int, published.read_text().split()))


# --- labels and ids --------------------------------------------------------------------------------------------------


def test_labels_do_not_depend_on_which_classes_are_there(tree: Path) -> None:
    split = ImageNetTree(tree).split("clean")
    assert split.labels.tolist() == [0, 0, 2, 2, 999, 999]
    assert split.ids[0] == f"{TENCH}/ILSVRC2012_val_00000001", "every class has a file of this name"
    assert split.labels.dtype == np.int64
    assert split.classes is None
    assert split.load(5).size == (40, 36)
    save(tree / "val" / GOLDFISH / "new.png")
    assert ImageNetTree(tree).split("clean").labels.tolist() == [0, 0, 1, 2, 2, 999, 999]


def test_v2_folders_are_numbers(tree: Path) -> None:
    v2 = tree / "imagenetv2-matched-frequency-format-val"
    for number in (0, 1, 2, 10, 100, 999):
        save(v2 / str(number) / "image.jpeg")
    split = ImageNetTree(tree).split("v2")
    assert split.labels.tolist() == [0, 1, 2, 10, 100, 999]
    assert [name.split("/")[0] for name in split.names] == ["0", "1", "2", "10", "100", "999"]
    assert split.ids.tolist() == [f"{wnids.wnids()[number]}/image" for number in (0, 1, 2, 10, 100, 999)]


def test_v2_in_wnid_folders_and_mixed(tree: Path) -> None:
    save(tree / "imagenetv2-matched-frequency" / SHARK / "image.jpeg")
    assert ImageNetTree(tree).split("v2").labels.tolist() == [2]
    save(tree / "imagenetv2-matched-frequency" / "7" / "image.jpeg")
    with pytest.raises(DataError, match="mixes numbered and other folders"):
        ImageNetTree(tree).split("v2")


def test_v2_number_that_is_no_class(tree: Path) -> None:
    save(tree / "imagenetv2-matched-frequency" / "1000" / "image.jpeg")
    with pytest.raises(DataError, match=r"1000: is no class folder; expected a number from 0 to 999"):
        ImageNetTree(tree).split("v2")


@pytest.mark.parametrize("name", ["a", "r"])
def test_class_subset(tree: Path, name: str) -> None:
    allowed = wnids.subset(name) or ()
    inside, outside = allowed[3], next(label for label in range(1000) if label not in allowed)
    save(tree / f"imagenet-{name}" / wnids.wnids()[inside] / "image.jpg")
    split = ImageNetTree(tree).split(name)
    assert split.classes == allowed
    assert split.labels.tolist() == [inside]
    save(tree / f"imagenet-{name}" / wnids.wnids()[outside] / "image.jpg")
    with pytest.raises(DataError, match=f"{wnids.wnids()[outside]}: is none of the 200 classes"):
        ImageNetTree(tree).split(name)


def test_damagenet_flat(tree: Path) -> None:
    folder = tree / "damagenet"
    for k in (1, 3):
        save(folder / f"ILSVRC2012_val_{k:08}.png")
    lines = [f"ILSVRC2012_val_{k:08}.JPEG {label}\n" for k, label in ((1, 65), (2, 5), (3, 0))]
    (folder / "val.txt").write_text("".join(lines))
    split = ImageNetTree(tree).split("damagenet")
    assert split.ids.tolist() == ["ILSVRC2012_val_00000001", "ILSVRC2012_val_00000003"]
    assert split.labels.tolist() == [65, 0]
    save(folder / "ILSVRC2012_val_00000009.png")
    with pytest.raises(DataError, match=r"00000009\.png: has no line in"):
        ImageNetTree(tree).split("damagenet")


@pytest.mark.parametrize("line", ["ILSVRC2012_val_00000001.JPEG 1000", "ILSVRC2012_val_00000001.JPEG", "a.png -1"])
def test_damagenet_bad_label_file(tree: Path, line: str) -> None:
    save(tree / "damagenet" / "ILSVRC2012_val_00000001.png")
    (tree / "damagenet" / "val.txt").write_text(f"ILSVRC2012_val_00000002.JPEG 3\n{line}\n")
    with pytest.raises(DataError, match=r"val\.txt:2: .* is not '<image name> <label from 0 to 999>'"):
        ImageNetTree(tree).split("damagenet")


def test_damagenet_in_wnid_folders(tree: Path) -> None:
    save(tree / "damagenet" / SHARK / "ILSVRC2012_val_00000001.png")
    assert ImageNetTree(tree).split("damagenet").labels.tolist() == [2]


# --- which sets are here ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "name"),
    [("train", "train"), ("sketch", "sketch"), ("imagenet-sketch", "sketch"), ("stylized", "stylized"),
     ("ImageNet_Style", "stylized"), ("imagenet-stylized", "stylized"), ("DAmageNet", "damagenet")],
)  # fmt: skip
def test_folder_names(tree: Path, folder: str, name: str) -> None:
    save(tree / folder / GOLDFISH / "image.png")
    source = open_source(str(tree))
    assert set(source.splits()) >= {"clean", name}
    assert source.split(name).labels.tolist() == [1]
    assert source.name == "imagenet"
    assert source.class_names[1] == GOLDFISH


def test_absent_sets_are_named_with_where_we_looked(tree: Path) -> None:
    source = ImageNetTree(tree)
    assert source.splits() == ["clean", *(f"c/{c}/{s}" for c in CORRUPTIONS for s in SEVERITIES)]
    with pytest.raises(MissingSplit, match="no 'sketch' set; looked for a folder sketch or imagenet-sketch"):
        source.split("sketch")
    with pytest.raises(MissingSplit, match="no 'train' set"):
        source.split("train")
    with pytest.raises(MissingSplit, match="no split 'skecth'; known: train, clean, v2"):
        source.split("skecth")


def test_two_folders_for_one_set(tree: Path) -> None:
    save(tree / "sketch" / TENCH / "a.png")
    save(tree / "imagenet-sketch" / TENCH / "a.png")
    with pytest.raises(DataError, match="both imagenet-sketch and sketch could be 'sketch'"):
        ImageNetTree(tree)


def test_roots_that_are_no_tree(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected val/<wnid>.*give its parent"):
        ImageNetTree(tree / "val")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="holds no set; expected val/<wnid>"):
        ImageNetTree(tmp_path / "nothing")
    with pytest.raises(UsageError, match="does not exist"):
        ImageNetTree(tmp_path / "absent")
    save(tmp_path / "only" / "imagenet-sketch" / TENCH / "a.png")
    source = ImageNetTree(tmp_path / "only")
    assert source.splits() == ["sketch"]
    for name in ("clean", "c/fog/3"):
        with pytest.raises(MissingSplit, match="no 'clean' set; looked for a folder val"):
            source.split(name)


# --- broken trees ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", ["n99999999", "tench", "n0144076", "0"])
def test_a_folder_that_is_no_wnid(tree: Path, extra: str) -> None:
    save(tree / "val" / extra / "a.png")
    with pytest.raises(DataError, match=f"val/{extra}: is no class folder; expected one of the 1000 wnids"):
        ImageNetTree(tree).split("clean")


def test_loose_and_hidden_files_do_no_harm(tree: Path) -> None:
    (tree / "val" / "README.txt").write_text("about")
    (tree / "val" / ".DS_Store").write_text("x")
    (tree / "val" / TENCH / "._ILSVRC2012_val_00000001.JPEG").write_text("resource fork")
    (tree / "val" / ".cache").mkdir()
    assert len(ImageNetTree(tree).split("clean")) == 6


def test_half_copied(tree: Path) -> None:
    (tree / "val" / GOLDFISH).mkdir()
    with pytest.raises(DataError, match=rf"1 class folder\(s\) hold no image \({GOLDFISH}\); half copied"):
        ImageNetTree(tree).split("clean")
    (tree / "val" / GOLDFISH / "image.JPEG.part").write_text("x")
    with pytest.raises(DataError, match="half copied"):
        ImageNetTree(tree).split("clean")


def test_empty_set(tree: Path) -> None:
    (tree / "sketch").mkdir()
    with pytest.raises(DataError, match="sketch: holds no class folder"):
        ImageNetTree(tree).split("sketch")
    (tree / "damagenet").mkdir()
    (tree / "damagenet" / "val.txt").write_text("")
    with pytest.raises(DataError, match=r"holds val\.txt but no image"):
        ImageNetTree(tree).split("damagenet")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_out_of_the_set_are_refused(tree: Path, tmp_path_factory: pytest.TempPathFactory, what: str) -> None:
    outside = save(tmp_path_factory.mktemp("outside") / "secret.png")
    link = tree / "val" / (f"{TENCH}/link.png" if what == "file" else GOLDFISH)
    link.symlink_to(outside if what == "file" else outside.parent)
    with pytest.raises(DataError, match="is a link out of"):
        ImageNetTree(tree).split("clean")


def test_links_inside_a_set_and_to_a_whole_set(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (tree / "val" / TENCH / "again.JPEG").symlink_to(tree / "val" / SHARK / "ILSVRC2012_val_00000001.JPEG")
    assert len(ImageNetTree(tree).split("clean")) == 7
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "val").symlink_to(tree / "val")
    assert len(ImageNetTree(elsewhere).split("clean")) == 7
    (tree / "val" / TENCH / "again.JPEG").unlink()
    (tree / "val" / TENCH / "again.JPEG").symlink_to(tree / "val" / "gone.JPEG")
    with pytest.raises(DataError, match=r"again\.JPEG: is a link to nothing"):
        ImageNetTree(tree).split("clean")


def test_truncated_and_foreign_files(tree: Path) -> None:
    split = ImageNetTree(tree).split("clean")
    path = tree / "val" / split.names[0]
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(CorruptImage, match=rf"{split.names[0]}: cannot be decoded \(.*truncated.*\); copy it again"):
        split.load(0)
    path.write_bytes(b"<html>404 Not Found</html>")
    with pytest.raises(CorruptImage, match="no image format that is known"):
        split.load(0)
    path.write_bytes(b"")
    with pytest.raises(CorruptImage):
        split.load(0)
    path.unlink()
    with pytest.raises(CorruptImage, match="does not exist"):
        split.load(0)


# --- decoding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "I;16"])
def test_every_mode_becomes_eight_bit_rgb(mode: str) -> None:
    ramp = np.linspace(0, 255, 48).round().astype(np.uint8)[None].repeat(40, axis=0)
    if mode == "I;16":
        image = Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(np.stack([ramp] * 3, axis=2))
        image = image.quantize(48) if mode == "P" else image.convert(mode)
    assert image.mode == mode
    file = io.BytesIO()
    image.save(file, "JPEG" if mode == "CMYK" else "PNG", **({"quality": 95} if mode == "CMYK" else {}))
    file.seek(0)
    decoded = decode(file, "memory")
    assert decoded.mode == "RGB"
    error = np.abs(np.asarray(decoded).astype(int) - ramp[..., None])
    assert error.mean() < 2


# --- the digest ------------------------------------------------------------------------------------------------------


def test_digest_follows_ids_labels_and_sizes_but_not_the_place(tree: Path, tmp_path_factory) -> None:
    digest = ImageNetTree(tree).split("clean").digest
    moved = tmp_path_factory.mktemp("moved") / "tree"
    tree.rename(moved)
    split = ImageNetTree(moved).split("clean")
    assert split.digest == digest
    assert split.limited(3).digest != digest
    entries = [Entry(*entry) for entry in zip(split.names, split.labels, split.sizes, strict=True)]
    assert FolderSplit("clean", moved, entries[::-1]).digest == digest
    other_label = [entries[0]._replace(label=5), *entries[1:]]
    other_size = [entries[0]._replace(size=5), *entries[1:]]
    digests = {FolderSplit("clean", moved, e).digest for e in (entries, entries[1:], other_label, other_size)}
    assert len(digests) == 4


# --- ImageNet-C ------------------------------------------------------------------------------------------------------


def test_c_is_made_from_val_where_it_is_not_here(tree: Path) -> None:
    split = ImageNetTree(tree).split("c/fog/3")
    clean = ImageNetTree(tree).split("clean")
    assert split.name == "c/fog/3"
    assert split.origin == "generated-memory"
    assert split.ids.tolist() == clean.ids.tolist()
    image = split.load(2)
    assert image.size == (224, 224)
    assert np.array_equal(np.asarray(image), np.asarray(split.load(2)))
    digests = {ImageNetTree(tree).split(name).digest for name in ("clean", "c/fog/3", "c/fog/4", "c/snow/3")}
    assert len(digests) == 4


def test_generated_c_is_resize_crop_corrupt(tree: Path) -> None:
    """By hand: shorter side 256 bilinear, centre 224, seed 0, no JPEG."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    path = tree / "val" / TENCH / "a.png"
    Image.fromarray(noise).save(path)
    split = ImageNetTree(tree).split("c/shot_noise/2")
    index = split.ids.tolist().index(f"{TENCH}/a")
    resized = Image.fromarray(noise).resize((int(256 * 400 / 300), 256), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 224) / 2), (256 - 224) // 2
    cropped = np.asarray(resized.crop((left, top, left + 224, top + 224)))
    expected = corrupt(cropped, "shot_noise", 2, seed=0, image_id=f"{TENCH}/a", engine="nsbench")
    assert np.array_equal(np.asarray(split.load(index)), expected)


def test_official_c_is_taken_as_it_is(tree: Path) -> None:
    save(tree / "ImageNet-C" / "fog" / "3" / SHARK / "a.JPEG", size=(224, 224))
    source = ImageNetTree(tree)
    assert source.splits() == ["clean", "c/fog/3"]
    split = source.split("c/fog/3")
    assert split.origin == "official"
    assert split.labels.tolist() == [2]
    with pytest.raises(MissingSplit, match=r"fog/4: is absent; copy it, or move .*ImageNet-C away"):
        source.split("c/fog/4")


def test_c_names_that_do_not_exist(tree: Path) -> None:
    source = ImageNetTree(tree)
    with pytest.raises(UnknownName, match="Did you mean 'fog'"):
        source.split("c/fogg/3")
    with pytest.raises(UsageError, match="severity 6"):
        source.split("c/fog/6")
    for name in ("c/fog", "c/fog/x", "c/"):
        with pytest.raises(MissingSplit, match="no split"):
            source.split(name)


# --- scale and real data ---------------------------------------------------------------------------------------------


def test_scanning_is_quick(tmp_path: Path) -> None:
    """5,000 files in well under a second: one directory walk, no file is opened."""
    for wnid in wnids.wnids()[:100]:
        folder = tmp_path / "val" / wnid
        folder.mkdir(parents=True)
        for k in range(50):
            (folder / f"{k}.JPEG").touch()
    start = time.perf_counter()
    split = ImageNetTree(tmp_path).split("clean")
    assert split.digest
    assert len(split) == 5000
    assert time.perf_counter() - start < 1.5


def test_real_tree(shared_data: Path) -> None:
    """Labels of the real validation files agree with the label list that DAmageNet publishes for all 50,000."""
    source = ImageNetTree(shared_data / "imagenet")
    clean = source.split("clean")
    assert len(clean) == 650
    listed = shared_data / "damagenet" / "val.txt"
    published, _ = layouts.parse_labels(listed.read_text(), listed)
    assert len(published) == 50_000
    assert [published[Path(image_id).stem] for image_id in clean.ids] == clean.labels.tolist()
    train = source.split("train")
    assert train.labels.tolist() == list(range(1000))
    assert clean.load(0).size == (227, 227)


def test_real_damagenet(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "damagenet").symlink_to(shared_data / "damagenet")
    split = ImageNetTree(tmp_path).split("damagenet")
    assert len(split) == 1
    assert split.load(0).size == (224, 224)
