"""Results for tests of tables: the paper's eleven suites, with outcomes that a test chooses."""

from __future__ import annotations

from pathlib import Path

import made
import numpy as np

from nsbench.leaderboard import Row, Table, build
from nsbench.results import ConditionResult, Result, read_results, write_result
from nsbench.statistics import ALEXNET_ERROR, SEVERITIES, accuracy
from nsbench.statistics.corruption_error import mean_corruption_error
from nsbench.types import Outcomes, ThreatModel

N = 200  # images
SUITES = {  # in the order of the paper's table 2, with their groups
    "clean": "clean",
    "patchfool": "adversarial",
    "cw": "adversarial",
    "fgsm": "adversarial",
    "damagenet": "adversarial",
    "imagenet_a": "ood",
    "imagenet_c": "ood",
    "imagenet_v2": "ood",
    "imagenet_r": "ood",
    "imagenet_sketch": "ood",
    "stylized": "ood",
}
SPLITS = {
    "imagenet_a": "a",
    "imagenet_c": "c/fog/1",
    "imagenet_v2": "v2",
    "imagenet_r": "r",
    "imagenet_sketch": "sketch",
    "stylized": "stylized",
    "damagenet": "damagenet",
}
CONDITIONS_OF_C = [f"{corruption}/{severity}" for corruption in ALEXNET_ERROR for severity in SEVERITIES]


def condition(suite: str, outcomes: Outcomes | None = None, name: str = "", **changes: object) -> ConditionResult:
    """Of a suite of SUITES, or of a suite of its own kind on the clean images."""
    plain: dict[str, object] = {"split": SPLITS.get(suite, "clean"), "data_digest": SPLITS.get(suite, "clean")}
    if suite == "damagenet":
        plain["beforehand"] = ThreatModel("linf", 25.5 / 255)
    return made.condition(name or suite, outcomes, **(plain | changes))


def result(method: str = "ns", suite: str = "clean", *, seed: int = 0, **changes: object) -> Result:
    """A result that has not been stored; its suite looks like that of SUITES."""
    mce = suite == "imagenet_c"
    plain: dict[str, object] = {
        "unit": "mCE" if mce else "%",
        "lower_is_better": mce,
        "title": suite.upper(),
        "group": SUITES.get(suite, "ood"),
        "order": list(SUITES).index(suite) if suite in SUITES else 100,
        "summary": f"Protocol of {suite}.",
        "preprocessing": "crop 48",
        "weights_digest": f"{method}{seed}",
        "parent_digest": "parent",
        "date": "2025-01-01",
        "identity": f"{method}{suite}{seed}{changes.get('model', '')}",
    }
    return made.result(method=method, suite=suite, seed=seed, **(plain | changes))


def outcomes(right: np.ndarray | list[bool], suite: str = "clean", order: np.ndarray | None = None) -> Outcomes:
    """Images of class 0, each right or wrong, in any order."""
    flags_N = np.asarray(right, dtype=bool)
    ids = np.array([f"{SPLITS.get(suite, 'clean').split('/')[0]}/{i:05d}" for i in range(len(flags_N))])
    order = np.arange(len(flags_N)) if order is None else order
    return Outcomes(ids[order], np.zeros(len(flags_N), dtype=np.int64), (~flags_N[order]).astype(np.int64))


def store(
    folder: Path,
    method: str,
    suite: str,
    right: np.ndarray | list[bool],
    *,
    seed: int = 0,
    order: np.ndarray | None = None,
    model: str = "vit",
    **changes: object,
) -> Result:
    """`right`: flags of images; of mCE the flags under every one of the 75 conditions."""
    mce = suite == "imagenet_c"
    measured = {name: outcomes(right, suite, order) for name in (CONDITIONS_OF_C if mce else [suite])}
    split = {name: f"c/{name}" if mce else SPLITS.get(suite, "clean") for name in measured}
    plain: dict[str, object] = {
        "conditions": tuple(condition(suite, one, name, split=split[name]) for name, one in measured.items()),
        "score": (mean_corruption_error if mce else accuracy)(measured),
        "recipe": None if method == "pretrained" else made.recipe(seed=seed),
        "parent_digest": model,
        "peak_memory_mib": 100,
    }
    return write_result(folder, result(method, suite, seed=seed, model=model, **(plain | changes)), measured)


def flags(share: float, seed: int, n: int = N) -> np.ndarray:
    """(n,) bool, each true with this probability."""
    return np.random.default_rng(seed).random(n) < share


def only_table(folder: Path, **options: object) -> Table:
    results, problems = read_results(folder)
    assert not problems
    (table,) = build(results, **options).tables  # type: ignore[arg-type]
    return table


def place(table: Table, name: str) -> int:
    """Position of the row of this label or method."""
    (found,) = [index for index, row in enumerate(table.rows) if name in (row.label, row.method)]
    return found


def row_of(table: Table, name: str) -> Row:
    return table.rows[place(table, name)]
