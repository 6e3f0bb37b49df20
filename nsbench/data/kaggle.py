"""The tree of Kaggle's ImageNet Object Localization Challenge.

ROOT/ILSVRC/Data/CLS-LOC/{train,val,test}, with val in one folder and its labels in ROOT/LOC_val_solution.csv. test has no
labels anywhere and is passed over.
https://www.kaggle.com/c/imagenet-object-localization-challenge/data
"""

from __future__ import annotations

import os
from pathlib import Path

SOLUTION = "LOC_val_solution.csv"
STEPS = ("ILSVRC", "Data", "CLS-LOC")  # from ROOT to the folder of train, val and test


def class_folder(root: Path) -> Path | None:
    """ROOT/ILSVRC/Data/CLS-LOC, where `root` is ROOT, ILSVRC or Data; None where it is not such a tree."""
    candidates = (root.joinpath(*STEPS[start:]) for start in range(len(STEPS)))
    return next((folder for folder in candidates if os.path.isdir(folder)), None)


def solution_of(val: Path) -> Path | None:
    """Where the labels of a folder ROOT/ILSVRC/Data/CLS-LOC/val lie or should lie; None for any other folder."""
    above = Path(os.path.abspath(val)).parents
    steps = tuple(folder.name for folder in above[: len(STEPS)])[::-1]
    return above[len(STEPS)] / SOLUTION if steps == STEPS else None
