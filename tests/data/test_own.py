"""Sources with classes of their own, in every form, and what is no part of them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from containers import jpeg, write_tar, write_zip
from layouts import put
from PIL import Image

from nsbench import registry
from nsbench.cli import main
from nsbench.corruptions import corrupt
from nsbench.data import wnids
from nsbench.data.own import OwnSource
from nsbench.data.own_parts import has_own_classes
from nsbench.data.sized import for_model
from nsbench.errors import DataError, MissingSplit, NotPartOfSource, UnknownName, UsageError
from nsbench.leaderboard import build
from nsbench.making.check import check_sets
from nsbench.report.numbers import average_column
from nsbench.results import read_results
from nsbench.run.opening import open_all, open_source

pytestmark = pytest.mark.usefixtures("own_cache")
CLASSES = ("boat", "cart", "dune")


def pictures(part: str = "", seed: int = 0, names: tuple[str, ...] = CLASSES) -> dict[str, bytes]:
    """Two pictures of each class."""
    at = f"{part}/" if part else ""
    return {
        f"{at}{name}/{name}_{seed + k}.jpg": jpeg(seed + 10 * label + k)
        for label, name in enumerate(names)
        for k in range(2)
    }


def rows(seed: int, form: str) -> pa.Table:
    """The same pictures as a table: class numbers with their names in the metadata, words, or bare numbers."""
    files = pictures("", seed)
    names = [name.split("/")[0] for name in files]
    labels = names if form == "words" else [CLASSES.index(name) for name in names]
    images = [{"bytes": content, "path": name.split("/")[1]} for name, content in files.items()]
    made = pa.table({"image": images, "label": labels})
    if form != "numbered":
        return made
    features = {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def as_folders(root: Path) -> Path:
    return put(root, pictures("train", 100) | pictures("val"))


def as_test_folder(root: Path) -> Path:
    return put(root, pictures("train", 100) | pictures("test"))


def as_wrapped(root: Path) -> Path:
    put(root / "pets-1.0", pictures("train", 100) | pictures("val"))
    return root


def as_zip(root: Path) -> Path:
    root.mkdir(parents=True)
    return write_zip(root / "own.zip", pictures("own/train", 100) | pictures("own/val"))


def as_two_tars(root: Path) -> Path:
    write_tar(root / "train.tar", pictures("", 100))
    write_tar(root / "test.tar", pictures("test"))
    return root


def as_tables(form: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        (root / "data").mkdir(parents=True)
        pq.write_table(rows(100, form), root / "data" / "train-00000-of-00001.parquet")
        pq.write_table(rows(0, form), root / "data" / "test-00000-of-00001.parquet")
        return root

    write.__name__ = f"as_tables_{form}"
    return write


def as_shards(root: Path) -> Path:
    for part, seed in (("train", 100), ("val", 0)):
        files: dict[str, bytes] = {}
        for name, content in pictures("", seed).items():
            key = name.split("/")[1].removesuffix(".jpg")
            files |= {f"{key}.jpg": content, f"{key}.cls": str(CLASSES.index(name.split("/")[0])).encode()}
        write_tar(root / part / f"{part}-0.tar", files)
    (root / "classnames.txt").write_text("\n".join(CLASSES))
    return root


FORMS = [
    as_folders,
    as_test_folder,
    as_wrapped,
    as_zip,
    as_two_tars,
    as_tables("numbered"),
    as_tables("words"),
    as_shards,
]


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
def test_one_source_in_every_form(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    source = OwnSource(write(tmp_path / "own"))
    assert tuple(source.class_names) == CLASSES
    for name, seed in (("train", 100), ("clean", 0)):
        split = source.split(name)
        expected = {f"{one}_{seed + k}": label for label, one in enumerate(CLASSES) for k in range(2)}
        assert dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True)) == expected
        assert split.classes is None
        assert pickle.loads(pickle.dumps(split)).load(0).size == (40, 36)
    plain = OwnSource(as_folders(tmp_path / "plain"))
    assert source.split("clean").digest == plain.split("clean").digest
    assert source.split("c/fog/2").load(0).size == (224, 224)


def test_names_are_no_file_names_where_pictures_are_called_alike(tmp_path: Path) -> None:
    files = {f"val/{name}/0.jpg": jpeg(k) for k, name in enumerate(CLASSES)}
    split = OwnSource(put(tmp_path / "own", files | pictures("train", 100))).split("clean")
    assert split.ids.tolist() == [f"{name}/0" for name in CLASSES]


def test_bare_numbers_are_classes_of_these_names(tmp_path: Path) -> None:
    source = OwnSource(as_tables("bare")(tmp_path / "own"))
    assert tuple(source.class_names) == ("0", "1", "2")
    assert source.split("clean").labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("write", [lambda root: put(root, pictures()), lambda root: put(root, pictures("train"))])
def test_without_parts_a_share_is_evaluated_and_stays_the_same(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    root = write(tmp_path / "own")
    put(
        root,
        {
            name: content
            for seed in range(100, 160, 2)
            for name, content in pictures("" if (root / "boat").is_dir() else "train", seed).items()
        },
    )
    source = OwnSource(root)
    assert "of which a fifth is evaluated" in source.title
    train, clean = source.split("train"), source.split("clean")
    assert (train.name, clean.name) == ("train", "clean")
    assert not set(train.ids) & set(clean.ids)
    assert len(train) + len(clean) == 186
    assert 0.1 < len(clean) / 186 < 0.3
    put(root, pictures("" if (root / "boat").is_dir() else "train", 500))
    grown = OwnSource(root).split("clean")
    assert set(clean.ids) <= set(grown.ids), "a picture that is added moves no other one"


def test_names_beside_tables_of_bare_numbers(tmp_path: Path) -> None:
    root = as_tables("bare")(tmp_path / "own")
    (root / "classnames.txt").write_text("\n".join(CLASSES))
    assert tuple(OwnSource(root).class_names) == CLASSES
    (root / "classnames.txt").write_text("\n".join(CLASSES[:2]))
    with pytest.raises(DataError, match=r"the label '2' is no class|a label is 2, and there are 2 classes"):
        OwnSource(root).split("clean")


def test_what_has_no_meaning_is_not_part_of_the_source(tmp_path: Path) -> None:
    source = OwnSource(put(tmp_path / "own", pictures("val")))
    assert [source.has_meaning(name) for name in ("train", "clean", "c/fog/1", "a", "damagenet")] == [True] * 3 + [
        False
    ] * 2
    with pytest.raises(NotPartOfSource, match="'a' is not part of own"):
        source.split("a")
    with pytest.raises(MissingSplit, match="holds no train part"):
        source.split("train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (pictures("val") | pictures("test"), "val and test, and each could be 'clean'|test and val, and each could"),
        ({"readme.txt": b"nothing"}, "holds no class folder"),
        (
            pictures("train") | pictures("val", names=("boat", "tree")),
            "class tree is evaluated and is none of the 3 to train",
        ),
        (pictures("val", names=("boat",)), "1 classes"),
        (pictures("val", names=tuple(map(str, range(12)))), "which torchvision orders as words .* others as numbers"),
    ],
)
def test_what_leaves_two_readings_is_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        OwnSource(put(tmp_path / "own", files)).split("clean")
    assert "\n" not in str(raised.value)


def test_numbers_in_a_stated_order(tmp_path: Path) -> None:
    root = put(tmp_path / "own", pictures("val", names=tuple(map(str, range(12)))))
    (root / "classnames.txt").write_text("\n".join(map(str, range(12))))
    split = OwnSource(root).split("clean")
    assert [int(image_id.split("_")[0]) for image_id in split.ids] == split.labels.tolist()


def test_imagenet_is_not_taken_for_something_else(tmp_path: Path) -> None:
    known = tuple(wnids.wnids()[k] for k in (3, 7))
    assert has_own_classes(put(tmp_path / "own", pictures("val")))
    assert not has_own_classes(put(tmp_path / "wnids", pictures("val", names=known)))
    assert not has_own_classes(
        put(tmp_path / "sets", pictures("sketch", names=known) | pictures("stylized", names=known))
    )
    assert not has_own_classes(put(tmp_path / "v2", pictures("imagenetv2", names=("0", "1", "2"))))
    assert open_source(str(tmp_path / "wnids")).name == "imagenet"
    forced = open_source(f"folder:{tmp_path / 'wnids'}")
    assert (forced.name, len(forced.class_names)) == ("wnids", 2)


def test_reserved_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot name a source of one's own"):
        OwnSource(put(tmp_path / "imagenet", pictures("val")))


def test_a_run_on_own_classes(tmp_path: Path) -> None:
    """Three classes, a model of three classes: every suite that makes sense, and an average over the source's own."""
    import timm
    import torch
    from safetensors.torch import save_file

    root = put(tmp_path / "own", pictures("train", 100) | pictures("val"))
    command = ["run", "--method", "pretrained", "--data", str(root), "--model", "test_vit", "--checkpoint",
               str(tmp_path / "w.safetensors"), "--results", str(tmp_path / "results")]  # fmt: skip
    tiny = timm.create_model("test_vit", num_classes=3)
    torch.manual_seed(0)
    save_file(tiny.state_dict(), tmp_path / "w.safetensors")
    done = CliRunner().invoke(main, [*command, "--suite", "clean,fgsm,imagenet_a,patchfool,cw,imagenet_c,stylized"])
    assert done.exit_code == 0, done.output
    assert "not part of own (3 classes): imagenet_a, stylized" in " ".join(done.output.split())
    results, problems = read_results(tmp_path / "results")
    assert not problems
    registry.load_content()
    own = ("clean", "cw", "fgsm", "imagenet_c", "patchfool")
    assert {one.suite for one in results} == set(own)
    assert {one.paper_suites for one in results} == {own}
    assert {one.source for one in results} == {"own"}
    (table,) = build(results).tables
    (row,) = table.rows
    assert row.average is not None
    assert average_column(table).title == "Average of 5 (1 made at 160 px)"
    with_surrogate = [*command, "--surrogate", f"test_vit:{tmp_path / 'w.safetensors'}", "--suite"]
    done = CliRunner().invoke(main, [*with_surrogate, "damagenet,clean"])
    assert done.exit_code == 0, done.output
    (made,) = [one for one in read_results(tmp_path / "results")[0] if one.suite == "damagenet"]
    assert made.paper_suites == ("clean", "cw", "damagenet", "fgsm", "imagenet_c", "patchfool")
    assert made.conditions[0].origin.startswith("attacked on test_vit (weights ")
    refused = CliRunner().invoke(main, [*command, "--suite", "imagenet_r"])
    assert refused.exit_code == 2
    assert "not part of own" in refused.output


def test_a_set_of_the_hub_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache as huggingface_hub lays it out: a revision's files are links to blobs."""
    from huggingface_hub import constants

    repository = tmp_path / "hub" / "datasets--owner--ships"
    pq.write_table(rows(0, "numbered"), tmp_path / "test.parquet")
    for folder in ("blobs", "refs", "snapshots/abc123/data"):
        (repository / folder).mkdir(parents=True)
    (tmp_path / "test.parquet").rename(repository / "blobs" / "0f0f")
    (repository / "refs" / "main").write_text("abc123")
    (repository / "snapshots/abc123/data/test-00000-of-00001.parquet").symlink_to("../../../blobs/0f0f")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = open_source("hf:owner/ships")
    assert (source.name, tuple(source.class_names)) == ("ships", CLASSES)
    assert len(source.split("clean")) == 6
    with pytest.raises(DataError, match=r"hf:owner/planes: is not in the cache .* HF_HUB_OFFLINE is set"):
        open_source("hf:owner/planes")
    with pytest.raises(UsageError, match="give hf:owner/name"):
        open_source("hf:planes")


def cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten pictures in the form of CIFAR-10, with its checksums set to theirs."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import calculate_md5

    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3072), dtype=np.uint8)
    for name in ("data_batch_1", "test_batch"):
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {k}" for k in range(10)]}))
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", calculate_md5(folder / "data_batch_1")]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", calculate_md5(folder / "test_batch")]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": calculate_md5(folder / "batches.meta")}
    monkeypatch.setattr(CIFAR10, "meta", meta)


def test_a_set_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(tmp_path, monkeypatch)
    source = open_source(f"torchvision:CIFAR10:{tmp_path}")
    assert (source.name, source.class_names[3]) == ("cifar10", "class 3")
    split = source.split("clean")
    assert split.ids[:2].tolist() == ["test/000000", "test/000001"]
    assert split.labels.tolist() == list(range(10))
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3072), dtype=np.uint8)
    assert np.array_equal(np.asarray(split.load(4)), pixels[4].reshape(3, 32, 32).transpose(1, 2, 0))
    assert split.digest != source.split("train").digest
    mild = corrupt(np.asarray(split.load(4)), "fog", 2, seed=0, image_id="test/000004", engine="nsbench", scale="cifar")
    made = source.split("c/fog/2")
    assert np.array_equal(np.asarray(for_model(made, "none", 32, False).load(4)), mild)
    large = for_model(made, "none", 64, False)
    assert np.array_equal(np.asarray(large.load(4)), np.asarray(Image.fromarray(mild).resize((64, 64))))
    assert (large.origin, large.resized_from) == ("generated-memory, severities of CIFAR-10-C", 32)
    assert len({large.digest, made.digest, for_model(made, "none", 32, False).digest}) == 3
    with pytest.raises(UsageError, match="severities of ImageNet-C alone; take 'nsbench'"):
        open_source(f"torchvision:CIFAR10:{tmp_path}", "imagecorruptions").split("c/fog/2")
    with pytest.raises(NotPartOfSource):
        source.split("v2")
    with pytest.raises(UnknownName, match="unknown torchvision set 'CIFAR11'"):
        open_source(f"torchvision:CIFAR11:{tmp_path}")
    with pytest.raises(DataError, match=r"torchvision:CIFAR100:.*cannot be opened .* download=True"):
        open_source(f"torchvision:CIFAR100:{tmp_path}")
    with pytest.raises(UsageError, match="give torchvision:NAME:ROOT"):
        open_source("torchvision:CIFAR10")


def test_an_altered_pickle_of_torchvision_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="not found or corrupted"):
        open_source(f"torchvision:CIFAR10:{tmp_path}")


def test_data_check_of_own_classes(tmp_path: Path) -> None:
    root = put(tmp_path / "own", pictures("train", 100) | pictures("val"))
    report = check_sets(root)
    assert [(one.split, one.images, one.classes, one.problems) for one in report.sets] == [
        ("train", 6, 3, ()),
        ("clean", 6, 3, ()),
    ]
    same = (root / "train/boat/boat_100.jpg").read_bytes()
    (root / "val/boat/again.jpg").write_bytes(same)
    (root / "val/loose.jpg").write_bytes(same)
    (root / "val/cart/cart_0.jpg").write_bytes(b"no picture")
    found = CliRunner().invoke(main, ["data", "check", str(root)])
    told = " ".join(found.output.split())
    assert found.exit_code == 1
    for words in (
        "1 of 7 images are in train too, byte by byte, such as again",
        "1 picture inside 'clean' not read, such as loose.jpg",
        "1 unreadable",
    ):
        assert words in told
    forced = check_sets(f"folder:{put(tmp_path / 'wnids', pictures('val', names=tuple(wnids.wnids()[:2])))}")
    assert forced.sets[0].images == 4


def test_a_config_of_own_classes_with_a_set_of_its_own(tmp_path: Path) -> None:
    put(tmp_path / "own", pictures("train", 100) | pictures("val"))
    put(tmp_path / "harbour", pictures("", 700, ("boat", "cart")))
    path = tmp_path / "own.toml"
    path.write_text(
        'source = "folder"\nroot = "own"\nname = "vehicles"\nclass_names = ["dune", "boat", "cart"]\n'
        '[sets.harbour]\npath = "harbour"\nclasses = "present"\n'
    )
    source = open_source(str(path))
    assert (source.name, tuple(source.class_names)) == ("vehicles", ("dune", "boat", "cart"))
    split = source.split("harbour")
    assert (split.labels.tolist(), split.classes) == ([1, 1, 2, 2], (1, 2))
    assert source.has_meaning("harbour")
    assert dict(zip(source.split("clean").ids, source.split("clean").labels, strict=True))["dune_0"] == 0
    path.write_text(path.read_text().replace('"present"', '["boat", "dune"]'))
    with pytest.raises(
        DataError, match=r"harbour: 2 images are of 1 class\(es\) that are none of this set's 2, such as cart"
    ):
        open_source(str(path)).split("harbour")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('source = "files"\nroot = "own"', 'source must be "folder"'),
        ('source = "folder"', "needs the folder"),
        ('source = "folder"\nroot = "own"\ncolour = 1', "colour is none of root, name"),
        ('source = "folder"\nroot = "own"\nname = "a/b"', "the name must consist of"),
        ('source = "folder"\nroot = "own"\nname = "ImageNet"', "is that of another source"),
        ('source = "folder"\nroot = "own"\nclass_names = "x"', "must be a list of names"),
        ('source = "folder"\nroot = "own"\nclass_names = ["boat", "cart"]', "one of the 2 classes"),
        ('source = "folder"\nroot = ', "cannot be read as a config file"),
    ],
)
def test_what_is_wrong_with_a_config_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path / "own", pictures("val"))
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(DataError, match=words) as raised:
        open_source(str(tmp_path / "own.toml")).split("clean")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("size", "crop"), [((32, 32), 1.0), ((40, 36), None), ((200, 200), None)])
def test_small_square_pictures_are_shown_whole_to_a_module_that_says_nothing(
    tmp_path: Path, size: tuple[int, int], crop: float | None
) -> None:
    files = {f"val/{name}/{k}.jpg": jpeg(k, size) for k, name in enumerate(CLASSES)}
    (tmp_path / "models.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))\n    net.input_size = 32\n    return net\n"
    )
    root = put(tmp_path / "own", files)
    assert open_source(str(root)).crop_pct == crop
    opened = open_all(str(root), f"{tmp_path / 'models.py'}:build")
    assert opened.model.preprocessing.crop_pct == (crop or 0.875)
