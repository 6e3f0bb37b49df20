"""Kaggle's tree, and every layout that people have through `run` and `data check`: right labels, or one line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from containers import Pictures, jpeg, stem
from layouts import WNIDS, labels, others, put, put_table, put_tiny, under, wanted

from nsbench.cli import main
from nsbench.data.config import KNOWN
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import DataError
from nsbench.results import read_outcomes, read_results
from nsbench.run.opening import open_source

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def kaggle(tmp_path: Path, pictures: Pictures) -> Path:
    base = "ILSVRC/Data/CLS-LOC"
    put(tmp_path, {f"{base}/val/{name.split('/')[1]}": content for name, content in pictures.items()})
    put(tmp_path, under(f"{base}/train", {f"{WNIDS[7]}/{WNIDS[7]}_1.JPEG": jpeg(1)}))
    put(tmp_path, {f"{base}/test/ILSVRC2012_test_{k:08}.JPEG": jpeg(k) for k in range(4)})
    put(tmp_path, {"ILSVRC/ImageSets/CLS-LOC/val.txt": b"ILSVRC2012_val_00000001 1\n"})
    put(
        tmp_path,
        {"LOC_train_solution.csv": b"ImageId,PredictionString\n", "LOC_synset_mapping.txt": b"n01440764 tench\n"},
    )
    lines = (f"{stem(name)},{name.split('/')[0]} 111 108 441 193 {WNIDS[1]} 1 2 3 4\n" for name in pictures)
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(lines))
    return tmp_path


@pytest.mark.parametrize("given", ["", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_kaggle_from_wherever_it_is_named(kaggle: Path, pictures: Pictures, given: str) -> None:
    source = open_source(str(kaggle / given))
    assert source.splits()[:2] == ["train", "clean"]
    clean = source.split("clean")
    assert labels(clean) == wanted(pictures)
    assert clean.unread == (), "test lies outside val"
    assert source.split("train").labels.tolist() == [7]
    assert not any("test" in image_id for image_id in clean.ids)


def test_kaggle_from_inside_and_in_a_config_file(
    kaggle: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kaggle / "ILSVRC")
    assert labels(open_source(".").split("clean")) == wanted(pictures)
    (kaggle / "sets.toml").write_text('clean = "ILSVRC/Data/CLS-LOC/val"\n')
    assert labels(open_source(str(kaggle / "sets.toml")).split("clean")) == wanted(pictures)


def test_kaggle_with_other_sets_beside_it(kaggle: Path) -> None:
    put(kaggle, {f"imagenet-sketch/{WNIDS[2]}/a.JPEG": jpeg(0)})
    assert open_source(str(kaggle)).splits()[:3] == ["train", "clean", "sketch"]


def test_kaggle_without_its_list_and_with_a_line_too_few(kaggle: Path) -> None:
    solution = kaggle / "LOC_val_solution.csv"
    solution.write_text("".join(solution.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match=r"has no line in .*LOC_val_solution\.csv; complete the list"):
        ImageNetTree(kaggle).split("clean")
    solution.unlink()
    with pytest.raises(DataError, match=rf"15 images in no folder: .* Kaggle's list where it belongs, {solution}"):
        ImageNetTree(kaggle / "ILSVRC").split("clean")


def test_kaggle_sorted_into_folders(kaggle: Path, pictures: Pictures) -> None:
    """As the usual scripts leave it; one picture was left behind, and is named."""
    val = kaggle / "ILSVRC/Data/CLS-LOC/val"
    for name in list(pictures)[1:]:
        (val / name.split("/")[0]).mkdir(exist_ok=True)
        (val / name.split("/")[1]).rename(val / name)
    split = ImageNetTree(kaggle).split("clean")
    assert labels(split) == wanted(dict(list(pictures.items())[1:]))
    assert split.unread == (next(iter(pictures)).split("/")[1],)


def test_kaggle_beside_another_val(kaggle: Path, pictures: Pictures) -> None:
    put(kaggle, under("val", pictures))
    with pytest.raises(DataError, match=rf"both {kaggle}/val and {kaggle}/ILSVRC/Data/CLS-LOC/val could be 'clean'"):
        ImageNetTree(kaggle)
    for path in sorted((kaggle / "val").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (kaggle / "val").rmdir()
    (kaggle / "val").symlink_to(kaggle / "ILSVRC/Data/CLS-LOC/val")
    assert labels(ImageNetTree(kaggle).split("clean")) == wanted(pictures), "a link to it is no other one"


# --- the guide --------------------------------------------------------------------------------------------------------

GUIDE = re.findall(r"```toml\n(.*?)```", (Path(__file__).parents[2] / "docs" / "data.md").read_text(), re.DOTALL)


def test_the_guides_config_files(tmp_path: Path, pictures: Pictures) -> None:
    """docs/data.md: every key is one that is read, and the block of Tiny-ImageNet works as it stands."""
    first, tiny, *_ = GUIDE  # those of other classes and named sets are read by tests/cli/test_readme.py
    assert set(tomllib.loads(first)) <= {*KNOWN, "root", "labels", "classes"}
    put_tiny(tmp_path / "tiny-imagenet-200", pictures)
    (tmp_path / "sets.toml").write_text(tiny)
    source = open_source(str(tmp_path / "sets.toml"))
    assert (source.name, len(source.split("clean").classes or ())) == ("tiny", 5)


# --- commands ---------------------------------------------------------------------------------------------------------


def put_stylized(root: Path, pictures: Pictures) -> None:
    put(root / "stylized-imagenet", under("train", others(pictures)) | under("val", pictures))


def put_sketch(root: Path, pictures: Pictures) -> None:
    put_table(root / "imagenet_sketch" / "data" / "train-00000-of-00001.parquet", pictures)


def put_kaggle(root: Path, pictures: Pictures) -> None:
    put(root, {f"ILSVRC/Data/CLS-LOC/val/{name.split('/')[1]}": content for name, content in pictures.items()})
    lines = "".join(f"{stem(name)},{name.split('/')[0]} 1 2 3 4\n" for name in pictures)
    (root / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{lines}")


@pytest.mark.parametrize(("write", "suite", "name"), [
    (put_kaggle, "clean", "clean"), (put_tiny, "clean", "clean"), (put_stylized, "stylized", "stylized"),
    (put_sketch, "imagenet_sketch", "sketch"),
])  # fmt: skip
def test_run_and_data_check_read_the_same(
    tmp_path: Path, pictures: Pictures, shared_data: Path, write: Callable[..., object], suite: str, name: str
) -> None:
    expected = write(tmp_path / "tree", {one: jpeg(k, (224, 224)) for k, one in enumerate(pictures)}) or wanted(
        pictures
    )
    weights = next((shared_data / "weights").glob("vit_tiny*.safetensors"))
    command = ["run", "--method", "pretrained", "--suite", suite, "--data", str(tmp_path / "tree"), "--model",
               "vit_tiny_patch16_224", "--checkpoint", str(weights), "--results", str(tmp_path / "results"),
               "--device", "cpu"]  # fmt: skip
    ran = CliRunner().invoke(main, command)
    assert ran.exit_code == 0, ran.output
    (stored,), _ = read_results(tmp_path / "results")
    checked = json.loads(CliRunner().invoke(main, ["data", "check", str(tmp_path / "tree"), "--json"]).output)
    (found,) = [one for one in checked["sets"] if one["split"] == name]
    rows = read_outcomes(stored)[stored.conditions[0].name]
    assert {stem(image_id): int(label) for image_id, label in zip(rows.ids, rows.labels, strict=True)} == expected
    assert (found["images"], found["classes"]) == (15, 5)
    assert found["digest"] == stored.conditions[0].data_digest
    assert all("incomplete or altered" in problem for problem in found["problems"]), found["problems"]
