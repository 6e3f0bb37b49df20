"""Links that lead out of a set: refused unless asked for; the Hugging Face hub's cache consists of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from containers import LABELS, Pictures, as_folder, jpeg, table
from layouts import labels, wanted

from nsbench.cli import main
from nsbench.data import wnids
from nsbench.data.imagenet import ImageNetTree
from nsbench.errors import DataError
from nsbench.run.opening import open_source

pytestmark = pytest.mark.usefixtures("own_cache")
CLASSES = sorted(wnids.wnids()[label] for label in LABELS)


def linked_classes(root: Path, pictures: Pictures) -> Path:
    """val/<wnid> are links to folders elsewhere."""
    as_folder(root / "elsewhere", pictures)
    (root / "tree" / "val").mkdir(parents=True)
    for wnid in CLASSES:
        (root / "tree" / "val" / wnid).symlink_to(root / "elsewhere" / "val" / wnid)
    return root / "tree"


def linked_pictures(root: Path, pictures: Pictures) -> Path:
    """Folders of links to pictures, as a selection of a set is made."""
    as_folder(root / "elsewhere", pictures)
    for name in pictures:
        link = root / "tree" / "val" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(root / "elsewhere" / "val" / name, link.parent))
    return root / "tree"


def in_the_cache(root: Path, files: Pictures, repository: str, revision: str = "5e1f") -> Path:
    """As huggingface_hub downloads a repository."""
    top = root / f"datasets--{repository}"
    (top / "refs").mkdir(parents=True, exist_ok=True)
    (top / "blobs").mkdir(exist_ok=True)
    (top / "refs" / "main").write_text(revision)
    for name, content in files.items():
        blob = top / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = top / "snapshots" / revision / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return top


def hub(root: Path, pictures: Pictures) -> Path:
    return in_the_cache(root, {f"val/{name}": content for name, content in pictures.items()}, "me--mine")


LINKED = [linked_classes, linked_pictures, hub]


@pytest.mark.parametrize("link", LINKED)
def test_followed_when_asked_for(tmp_path: Path, pictures: Pictures, link: Callable[..., Path]) -> None:
    tree = link(tmp_path, pictures)
    with pytest.raises(
        DataError, match=r"is a link out of .*, or say --follow-links \(in a config file: follow_links = true"
    ):
        open_source(str(tree)).split("clean")
    split = open_source(str(tree), follow_links=True).split("clean")
    assert (labels(split), split.unread) == (wanted(pictures), ())
    as_folder(tmp_path / "plain", pictures)
    plain = ImageNetTree(tmp_path / "plain").split("clean")
    assert split.digest == plain.digest, "the same data, however they are stored"
    assert split.load(3).tobytes() == plain.load(3).tobytes()


@pytest.mark.parametrize("word", ["true", "false", "'yes'"])
def test_in_a_config_file(tmp_path: Path, pictures: Pictures, word: str) -> None:
    linked_classes(tmp_path, pictures)
    (tmp_path / "sets.toml").write_text(f'clean = "tree/val"\nfollow_links = {word}\n')
    if word == "true":
        assert labels(open_source(str(tmp_path / "sets.toml")).split("clean")) == wanted(pictures)
    else:
        with pytest.raises(
            DataError, match="is a link out of" if word == "false" else "follow_links must be true or false"
        ):
            open_source(str(tmp_path / "sets.toml")).split("clean")


def test_corrupted_sets_too(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.JPEG").write_bytes(jpeg(0, (224, 224)))
    fog = tmp_path / "imagenet-c" / "fog" / "3"
    fog.mkdir(parents=True)
    (fog / CLASSES[0]).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="--follow-links"):
        ImageNetTree(tmp_path).split("c/fog/3")
    assert len(ImageNetTree(tmp_path, follow_links=True).split("c/fog/3")) == 1


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(("name", "target", "message"), [
    (f"{CLASSES[0]}/x.JPEG", "../gone.JPEG", "x.JPEG: is a link to nothing"),
    (f"{CLASSES[0]}/x.JPEG", "x.JPEG", "x.JPEG: is a link to itself|x.JPEG: is a link to nothing"),
    ("n01440764", "gone", "n01440764: is a link to nothing"),
    ("n01440764", "n01440764", "n01440764: is a link to itself|n01440764: is a link to nothing"),
    ("n01440764", ".", "n01440764: is a link to a folder that it lies in"),
    ("n01440764", "../../tree", "n01440764: is a link (out of|to a folder that it lies in)"),
])  # fmt: skip
def test_links_to_nothing_and_in_a_circle(
    tmp_path: Path, pictures: Pictures, follow: bool, name: str, target: str, message: str
) -> None:
    """A class whose link leads nowhere would be left out in silence."""
    assert "n01440764" in CLASSES
    as_folder(tmp_path / "tree", {one: content for one, content in pictures.items() if name not in one})
    (tmp_path / "tree" / "val" / name).symlink_to(target)
    with pytest.raises(DataError, match=message):
        ImageNetTree(tmp_path / "tree", follow_links=follow).split("clean")


def test_pictures_that_nobody_reads_behind_links(tmp_path: Path, pictures: Pictures) -> None:
    tree = linked_classes(tmp_path, pictures)
    inside = tmp_path / "elsewhere" / "val" / CLASSES[0]
    (inside / "more").mkdir()
    (inside / "more" / "1.JPEG").write_bytes(jpeg(1))
    (inside / "more" / "back").symlink_to(inside)
    split = ImageNetTree(tree, follow_links=True).split("clean")
    assert (labels(split), split.unread) == (wanted(pictures), (f"{CLASSES[0]}/more/1.JPEG",))


# --- the cache of the hub --------------------------------------------------------------------------------------------


def parquet(folder: Path, pictures: Pictures) -> bytes:
    pq.write_table(table(pictures), folder / "one.parquet")
    return (folder / "one.parquet").read_bytes()


def test_tables_in_the_cache(tmp_path: Path, pictures: Pictures) -> None:
    """By the folder of the repository, of its revision, and by the cache as a whole; tables need no permission."""
    cache = tmp_path / "hub"
    cache.mkdir()
    content = parquet(tmp_path, pictures)
    (cache / "models--me--vit").mkdir()
    sketch = in_the_cache(
        cache, {"data/train-00000-of-00001.parquet": content, "README.md": b"-"}, "me--imagenet_sketch"
    )
    (tmp_path / "sets.toml").write_text(
        f'sketch = "{sketch}"\nstylized = "{sketch}/snapshots/5e1f/data/train-*.parquet"\n'
    )
    named = ImageNetTree(tmp_path / "sets.toml")
    for split in (named.split("sketch"), named.split("stylized"), ImageNetTree(cache).split("sketch")):
        assert labels(split) == wanted(pictures)
    for root in (sketch, sketch / "snapshots" / "5e1f"):
        with pytest.raises(
            DataError, match=rf"is it the set 'sketch', or a tree that holds train\? Give its parent, {cache}"
        ):
            ImageNetTree(root)
    whole = in_the_cache(cache, {"data/validation-00000-of-00001.parquet": content}, "me--imagenet-1k")
    assert labels(ImageNetTree(whole).split("clean")) == wanted(pictures)


def test_several_revisions(tmp_path: Path, pictures: Pictures) -> None:
    some = dict(list(pictures.items())[:6])
    top = in_the_cache(tmp_path, {"data/validation-0.parquet": parquet(tmp_path, pictures)}, "me--mine", "aaaa")
    in_the_cache(tmp_path, {"data/validation-0.parquet": parquet(tmp_path, some)}, "me--mine", "bbbb")
    assert labels(ImageNetTree(top).split("clean")) == wanted(some), "refs/main names it"
    (top / "refs" / "main").unlink()
    with pytest.raises(
        DataError, match=r"snapshots: holds 2 revisions \(aaaa, bbbb\) and refs/main names none of them"
    ):
        ImageNetTree(top)


# --- commands --------------------------------------------------------------------------------------------------------


def test_run_and_data_check(tmp_path: Path, pictures: Pictures, shared_data: Path) -> None:
    tree = linked_classes(tmp_path, pictures)
    weights = next((shared_data / "weights").glob("vit_tiny*.safetensors"))
    commands = [
        ["data", "check", str(tree)],
        ["run", "--method", "pretrained", "--suite", "clean", "--data", str(tree), "--model", "vit_tiny_patch16_224",
         "--checkpoint", str(weights), "--results", str(tmp_path / "results"), "--device", "cpu"],
    ]  # fmt: skip
    for command in commands:
        refused = CliRunner().invoke(main, command)
        assert refused.exit_code == 1
        assert "say --follow-links" in " ".join(refused.output.split())
    checked, ran = (CliRunner().invoke(main, [*command, "--follow-links"]) for command in commands)
    assert "--follow-links" not in checked.output
    assert "15 of 50,000 images" in " ".join(checked.output.split())
    assert ran.exit_code == 0, ran.output
    from nsbench.results import read_results

    (stored,), _ = read_results(tmp_path / "results")
    assert stored.conditions[0].n == 15


def test_making_sets(tmp_path: Path, pictures: Pictures) -> None:
    tree = linked_classes(tmp_path, dict(list(pictures.items())[::3]))
    command = ["data", "make", "imagenet-c", "--data", str(tree), "--out", str(tmp_path / "c"), "--corruptions",
               "brightness", "--severities", "1", "--workers", "1"]  # fmt: skip
    assert "--follow-links" in CliRunner().invoke(main, command).output
    made = CliRunner().invoke(main, [*command, "--follow-links"])
    assert made.exit_code == 0, made.output
    assert len(list((tmp_path / "c" / "brightness" / "1").glob("*/*.JPEG"))) == 5
