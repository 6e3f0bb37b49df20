"""`data check`: what is whole passes, every kind of damage is named, and nothing is read twice."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from nsbench.cli import main
from nsbench.data import manifest, wnids
from nsbench.data.imagenet import ImageNetTree
from nsbench.data.made import MARKER
from nsbench.data.manifest import content_digest
from nsbench.data.stored import Entry, FolderSplit
from nsbench.errors import DataError, ModelError, UsageError
from nsbench.making import expected
from nsbench.making.check import check_sets
from nsbench.making.findings import Report, SetReport
from nsbench.models import Preprocessing
from nsbench.run.evaluate import evaluate
from nsbench.statistics import accuracy
from nsbench.types import Condition, Outcomes

WNIDS = wnids.wnids()


@pytest.fixture(autouse=True)
def _small_world(own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ImageNet of four classes, so that complete sets can be made here."""
    small = {
        split: expected.Expected(12, 4, 3, real.ready, real.of_val, real.adversarial)
        for split, real in expected.EXPECTED.items()
    }
    monkeypatch.setattr(expected, "EXPECTED", small)


def picture(seed: int, size: tuple[int, int] = (224, 224), kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(file, kind)
    return file.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """val, sketch, damagenet (flat) and numbered v2, all complete."""
    lines = []
    for label in range(4):
        for k in range(3):
            number = 3 * label + k
            name = f"ILSVRC2012_val_{number:08}"
            write(tmp_path / "val" / WNIDS[label] / f"{name}.JPEG", picture(number, (60, 50)))
            write(tmp_path / "sketch" / WNIDS[label] / f"sketch_{number}.JPEG", picture(number))
            write(tmp_path / "damagenet" / f"{name}.png", picture(number, kind="PNG"))
            write(tmp_path / "imagenetv2-matched-frequency" / str(label) / f"{k}.jpeg", picture(number))
            lines.append(f"{name}.JPEG {WNIDS[label]}\n")
    (tmp_path / "damagenet" / "val.txt").write_text("".join(lines))
    return tmp_path


def problems(report: Report) -> dict[str, str]:
    return {found.split: " / ".join(found.problems) for found in report.sets if found.problems}


def of(report: Report, split: str) -> SetReport:
    return next(found for found in report.sets if found.split == split)


# --- whole sets ------------------------------------------------------------------------------------------------------


def test_whole_sets_pass(root: Path) -> None:
    report = check_sets(root)
    assert problems(report) == {}
    assert report.ok
    assert [found.split for found in report.sets] == ["clean", "v2", "sketch", "damagenet"]
    assert all(found.complete and found.content_digest and found.images == 12 for found in report.sets)
    assert of(report, "clean").sizes == {"60x50": 12}
    assert report.absent == ("train", "v2-threshold-0.7", "v2-top-images", "a", "r", "stylized", "c")
    text = report.to_text()
    assert "all is well" in text.splitlines()[-1]
    assert "12 of 12" in text


def test_json_says_what_the_text_says(root: Path) -> None:
    (root / "sketch" / WNIDS[0] / "sketch_0.JPEG").unlink()
    report = check_sets(root)
    told = json.loads(report.to_json())
    assert told["ok"] is False
    (sketch,) = (found for found in told["sets"] if found["split"] == "sketch")
    assert sketch["odd_classes"] == {WNIDS[0]: 2}
    assert sketch["problems"] == list(of(report, "sketch").problems)
    assert sketch["problems"][0] in report.to_text()
    assert "not all is well" in report.to_text()


# --- damage ----------------------------------------------------------------------------------------------------------


def damage_truncated(root: Path) -> None:
    path = root / "val" / WNIDS[1] / "ILSVRC2012_val_00000004.JPEG"
    path.write_bytes(path.read_bytes()[:-300])


def damage_truncated_png(root: Path) -> None:
    path = root / "damagenet" / "ILSVRC2012_val_00000004.png"
    path.write_bytes(path.read_bytes()[:-300])


def damage_no_picture(root: Path) -> None:
    write(root / "val" / WNIDS[1] / "ILSVRC2012_val_00000004.JPEG", b"<html>404 Not Found</html>")


def damage_missing_class(root: Path) -> None:
    for path in (root / "sketch" / WNIDS[2]).iterdir():
        path.unlink()
    (root / "sketch" / WNIDS[2]).rmdir()


def damage_extra_folder(root: Path) -> None:
    write(root / "val" / "n99999999" / "a.JPEG", picture(0))


def damage_empty_set(root: Path) -> None:
    (root / "imagenet-r").mkdir()


def damage_resized(root: Path) -> None:
    write(root / "damagenet" / "ILSVRC2012_val_00000003.png", picture(3, (256, 224), "PNG"))


def damage_label_map(root: Path) -> None:
    lines = (
        (root / "damagenet" / "val.txt").read_text().replace(f"00000000.JPEG {WNIDS[0]}", f"00000000.JPEG {WNIDS[1]}")
    )
    (root / "damagenet" / "val.txt").write_text(lines)


def damage_foreign_class(root: Path) -> None:
    write(root / "imagenet-a" / WNIDS[0] / "a.JPEG", picture(0))  # the tench is none of A's 200


def damage_c(root: Path) -> None:
    write(root / "imagenet-c" / "fog" / "3" / WNIDS[0] / "ILSVRC2012_val_00000000.JPEG", picture(0, (256, 256)))


DAMAGE = {
    damage_truncated: ("clean", r"1 unreadable: .*00000004\.JPEG: cannot be decoded .*truncated"),
    damage_truncated_png: ("damagenet", r"1 unreadable: .*00000004\.png: cannot be decoded"),
    damage_no_picture: ("clean", r"1 unreadable: .*00000004\.JPEG: .*no image format that is known"),
    damage_missing_class: ("sketch", rf"9 of 12 images; 1 of 4 classes absent \({WNIDS[2]}\)"),
    damage_extra_folder: ("clean", "n99999999: is no class folder"),
    damage_empty_set: ("r", "holds no class folder"),
    damage_resized: ("damagenet", r"1 images are not 224x224, such as ILSVRC2012_val_00000003 \(256x224\)"),
    damage_label_map: ("damagenet", r"1 of 12 images have another label than in val, such as .*00000000 \(1, in val 0"),
    damage_foreign_class: ("a", "is none of the 200 classes"),
    damage_c: ("c/fog/3", r"1 of 12 images.* / 1 images are not 224x224"),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_named_and_the_rest_is_checked(root: Path, damage) -> None:
    damage(root)
    report = check_sets(root)
    split, message = DAMAGE[damage]
    assert not report.ok
    assert re.search(message, problems(report)[split]), problems(report)
    assert set(problems(report)) <= {split, "c"}
    assert len(report.sets) >= 4


def test_corrupted_sets_share_a_row_and_say_who_made_them(root: Path) -> None:
    for severity in (1, 2):
        folder = root / "imagenet-c" / "fog" / str(severity)
        for number in range(12):
            name = f"ILSVRC2012_val_{number:08}.JPEG"
            write(folder / WNIDS[number // 3] / name, picture(number))
        write(folder / MARKER, json.dumps({"origin": "generated-jpeg", "complete": True}).encode())
    report = check_sets(root)
    assert problems(report).keys() == {"c"}, "73 of 75 are absent"
    assert of(report, "c/fog/2").origin == "generated-jpeg"
    text = report.to_text()
    assert re.search(r"^c, 2 sets +24 of 24 ", text, re.MULTILINE)
    assert "c/fog/1 and 1 more: made by nsbench (generated-jpeg)" in text


def test_absent_corruptions_are_counted(root: Path) -> None:
    damage_c(root)
    assert "1 of 75 corrupted sets are here; absent (c/gaussian_noise/1, " in problems(check_sets(root))["c"]


def test_unreadable_files_do_not_pass_the_second_time(root: Path) -> None:
    damage_truncated(root)
    assert problems(check_sets(root)) == problems(check_sets(root)) != {}


def test_grey_cmyk_and_sixteen_bit_are_readable(root: Path) -> None:
    names = [root / "sketch" / WNIDS[0] / f"sketch_{k}.JPEG" for k in range(3)]
    Image.new("L", (30, 30), 7).save(names[0])
    Image.new("CMYK", (30, 30)).save(names[1])
    Image.fromarray(np.full((30, 30), 40_000, np.uint16)).save(names[2], "PNG")
    assert check_sets(root).ok


def test_a_full_validation_set_in_wrong_folders_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """50,000 official names must carry the published labels; one exchange of two is enough to be noticed."""
    from nsbench.making import check as module

    ids = np.array([f"ILSVRC2012_val_{k:08}.png" for k in range(1, 50_001)])
    labels = np.arange(50_000) % 1000
    text = "".join(f"{name[:-4]} {label}\n" for name, label in zip(ids, labels, strict=True))
    monkeypatch.setattr(expected, "VAL_LABELS", hashlib.sha256(text.encode()).hexdigest())
    for change in (False, True):
        labels[0] = 5 if change else 0
        split = FolderSplit(
            "damagenet", tmp_path, [Entry(*entry, 1) for entry in zip(ids.tolist(), labels.tolist(), strict=True)]
        )
        assert bool(module._check_labels(SetReport("damagenet", "x"), split, {}).problems) == change


def test_published_labels(shared_data: Path) -> None:
    from nsbench.data.layouts import parse_labels

    path = shared_data / "damagenet" / "val.txt"
    labels, bare = parse_labels(path.read_text(), path)
    assert bare
    text = "".join(f"{stem} {label}\n" for stem, label in sorted(labels.items()))
    assert hashlib.sha256(text.encode()).hexdigest() == expected.VAL_LABELS
    assert set(np.bincount(list(labels.values()))) == {50}


def test_order_of_folders_is_explained(root: Path) -> None:
    """With labels 1, 2, 10 of V2, ImageFolder would count 0, 1, 2 in the order 1, 10, 2."""
    for label in (0, 3):
        (root / "imagenetv2-matched-frequency" / str(label)).rename(root / f"moved{label}")
    (root / "moved3").rename(root / "imagenetv2-matched-frequency" / "10")
    report = check_sets(root)
    (note,) = of(report, "v2").notes
    assert "numbers read as numbers" in note
    assert "would label 6 of 9 images wrongly" in note
    assert of(report, "clean").notes == (), "with every class there, ImageFolder agrees"


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no set"):
        check_sets(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        check_sets(tmp_path / "absent")


def test_a_declared_subset_is_complete(root: Path) -> None:
    damage_missing_class(root)
    (root / "data.toml").write_text('sketch = "sketch"\n[classes]\nsketch = "present"\n')
    report = check_sets(root / "data.toml")
    assert report.ok
    assert "scored over 3 declared classes" in report.to_text()


# --- the manifest ----------------------------------------------------------------------------------------------------


def test_only_what_changed_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    look = manifest._look
    monkeypatch.setattr(manifest, "_look", lambda split, k: read.append(split.file_name(k)) or look(split, k))
    first = {found.split: found.content_digest for found in check_sets(root).sets}
    assert len(read) == 48
    read.clear()
    assert {found.split: found.content_digest for found in check_sets(root).sets} == first
    assert read == []
    changed = root / "val" / WNIDS[0] / "ILSVRC2012_val_00000001.JPEG"
    content = bytearray(changed.read_bytes())
    content[-3] ^= 1  # the same size
    changed.write_bytes(content)
    again = {found.split: found.content_digest for found in check_sets(root).sets}
    assert read == [f"{WNIDS[0]}/ILSVRC2012_val_00000001.JPEG"]
    assert again["clean"] != first["clean"]
    assert {**again, "clean": 0} == {**first, "clean": 0}


def test_content_digest_only_while_it_is_current(root: Path) -> None:
    split = ImageNetTree(root).split("clean")
    assert content_digest(split) is None, "never checked"
    told = of(check_sets(root), "clean").content_digest
    assert content_digest(ImageNetTree(root).split("clean")) == told
    subset = content_digest(split.limited(5))
    assert subset is not None
    assert subset != told
    path = root / "val" / split.names[0]
    path.write_bytes(path.read_bytes())  # the same content, a new time: it has to be looked at again
    assert content_digest(split) is None
    assert of(check_sets(root), "clean").content_digest == told


def test_content_digest_is_that_of_the_contents_wherever_they_lie(root: Path, tmp_path_factory) -> None:
    import tarfile

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with tarfile.open(elsewhere / "val.tar", "w") as tar:
        tar.add(root / "val", "val")
    assert of(check_sets(elsewhere), "clean").content_digest == of(check_sets(root), "clean").content_digest


# --- with a model ----------------------------------------------------------------------------------------------------


class Knows(torch.nn.Module):
    """Recognises the pictures of the small world by their first pixel; `shift` moves its labels."""

    name, num_classes, input_size, device = "knows", 1000, 224, torch.device("cpu")
    preprocessing = Preprocessing(224, 1.0)

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.shift = shift
        known = [torch.from_numpy(np.asarray(Image.open(io.BytesIO(picture(k)))).copy()) for k in range(12)]
        self.known = torch.stack(known).permute(0, 3, 1, 2).float() / 255

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(images_BCHW, 28).flatten(1)
        nearest = torch.cdist(small, torch.nn.functional.avg_pool2d(self.known, 28).flatten(1)).argmin(dim=1)
        return torch.nn.functional.one_hot((nearest // 3 + self.shift) % 1000, 1000).float()


def test_a_label_permutation_raises_an_alarm(root: Path) -> None:
    report = check_sets(root, model=Knows())  # type: ignore[arg-type]
    assert report.ok, problems(report)
    assert of(report, "sketch").accuracy == 100
    report = check_sets(root, model=Knows(shift=1))  # type: ignore[arg-type]
    assert "accuracy of knows is 0 % of 12 images, near chance (0.1 %)" in problems(report)["sketch"]
    assert "damagenet" not in problems(report), "low accuracy is what these are made for"
    assert "0.0 %" in report.to_text()


def test_a_model_of_other_classes(root: Path) -> None:
    model = Knows()
    model.num_classes = 10
    with pytest.raises(ModelError, match=r"has 10 classes, .* has 1000"):
        check_sets(root, model=model)  # type: ignore[arg-type]


# --- real data, through our own scoring ------------------------------------------------------------------------------


def test_published_predictions_give_the_published_accuracies(shared_data: Path) -> None:
    """resnet50, alexnet and vgg16 on all of val and V2 (github.com/modestyachts/ImageNetV2)."""
    published = {"resnet50": (76.13, 63.33), "alexnet": (56.52, 43.98), "vgg16": (71.59, 58.84)}
    with np.load(shared_data / "predictions" / "top1.npz") as file:
        for name, figures in published.items():
            for part, figure in zip(("val", "v2"), figures, strict=True):
                labels = file[f"{part}_labels"].astype(np.int64)
                outcomes = Outcomes(np.arange(len(labels)).astype(str), labels, file[f"{part}_{name}"].astype(np.int64))
                score = accuracy({part: outcomes})
                assert round(score.value, 2) == figure
                assert score.n == {"val": 50_000, "v2": 10_000}[part]


@pytest.mark.parametrize("classes", [(5, 2, 900), tuple(range(0, 1000, 5))])
def test_masks_against_brute_force(root: Path, classes: tuple[int, ...]) -> None:
    """The judge's predictions inside a subset, for random logits, against a loop."""

    class Random(Knows):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.seen: list[torch.Tensor] = []

        def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
            self.seen.append(torch.randn(len(images_BCHW), 1000))
            return self.seen[-1]

    split = ImageNetTree(root).split("sketch")
    split.classes = classes
    model = Random()
    outcomes = evaluate(model, split, Condition("subset"), batch_size=5).outcomes  # type: ignore[arg-type]
    rows = torch.cat(model.seen[2:]).tolist()  # after the two looks at the outputs
    assert outcomes.predictions.tolist() == [max(classes, key=row.__getitem__) for row in rows]
    assert outcomes.extra["predictions_all"].tolist() == [row.index(max(row)) for row in rows]


def test_a_problem_is_named_once(root: Path) -> None:
    next((root / "val").rglob("*.JPEG")).write_bytes(b"no picture")
    shown = CliRunner().invoke(main, ["data", "check", str(root)]).output
    assert shown.count("cannot be decoded") == 1
    assert re.search(r"^(\d\d:\d\d:\d\d  )?clean: \d+ problems?$", shown, re.MULTILINE)
