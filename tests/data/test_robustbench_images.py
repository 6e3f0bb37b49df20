"""RobustBench's 5,000 images: the list of its package, in the order of val, and all of them or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from containers import jpeg
from layouts import put
from PIL import Image

from nsbench.data.imagenet import ImageNetTree
from nsbench.data.robustbench_images import robustbench_images, stems
from nsbench.data.source import Split
from nsbench.errors import MissingSplit
from nsbench.report.published import read_rows


class Val(Split):
    def __init__(self, ids: list[str]) -> None:
        self.name, self.ids, self.labels = "clean", np.array(ids), np.arange(len(ids)) % 1000

    digest = "of val"

    def load(self, index: int) -> Image.Image:
        raise NotImplementedError


def test_the_list_is_robustbench_s() -> None:
    assert (len(stems()), len(set(stems()))) == (5000, 5000)
    assert stems()[0] == "ILSVRC2012_val_00015253"


@pytest.mark.parametrize("form", ["{}", "{}.JPEG"])
def test_the_images_of_val_in_its_order(form: str) -> None:
    every = [form.format(f"ILSVRC2012_val_{number:08d}") for number in range(1, 50001)]
    split = robustbench_images(Val(every[::-1]))
    assert split.ids.tolist() == sorted((form.format(stem) for stem in stems()), reverse=True)
    assert split.name == "robustbench"


def test_a_part_of_val_is_not_enough(tmp_path: Path) -> None:
    put(tmp_path / "imagenet", {"val/n01440764/ILSVRC2012_val_00015253.JPEG": jpeg(0)})
    source = ImageNetTree(tmp_path / "imagenet")
    assert "robustbench" not in source.splits()
    with pytest.raises(
        MissingSplit, match=r"5,000 images of val, of which 4,999 are not here, such as ILSVRC2012_val_0"
    ):
        source.split("robustbench")


def test_reported_rows_of_the_column_say_on_which_images_their_clean_accuracy_is() -> None:
    rows = read_rows("suite_robustbench_linf.csv")
    assert {row.figures["robustbench_linf"] for row in rows} >= {54.66, 48.08, 34.96, 0.0}
    assert all(row.other("clean") and not row.other("robustbench_linf") for row in rows)
