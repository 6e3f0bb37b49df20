"""Seconds and memory of the report for a public leaderboard: 1,000 methods x 12 suites x 1,000 images.

    python tests/benchmarks/report.py [--methods 1000] [--images 1000] [--keep FOLDER]

Results are made up (images differ in difficulty, methods in skill) in a temporary folder, or once in the one to keep.
At most 20 s and 1 GiB are the aim, for reading, statistics and rendering together.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nsbench import registry, report
from nsbench.leaderboard import build
from nsbench.results import Result, read_results, write_result
from nsbench.statistics import ALEXNET_ERROR, MCE_WEIGHTS, SEVERITIES, accuracy
from nsbench.types import Condition, Outcomes, Score, Suite

CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", type=int, default=1000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="where to keep the made-up results, or where they lie already")
    options = parser.parse_args()
    if options.keep and options.keep.is_dir():
        measure(options.keep)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        make(folder, options.methods, options.images)
        measure(folder)


def measure(folder: Path) -> None:
    start = time.perf_counter()
    results, problems = read_results(folder)
    read = time.perf_counter()
    board = build(results, problems)
    built = time.perf_counter()
    page = report.to_html(board)
    rendered = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(results):,} results: read {read - start:.1f} s, statistics {built - read:.1f} s, "
        f"page {rendered - built:.1f} s ({len(page) / 1e6:.1f} MB); all {rendered - start:.1f} s, "
        f"peak memory {peak:,.0f} MiB"
    )


def make(folder: Path, methods: int, images: int) -> None:
    registry.load_content()
    suites = sorted((suite for suite in registry.suites.values() if suite.paper), key=lambda suite: suite.order)
    suites.append(Suite("extra", "Extra", "ood", suites[0].build, accuracy, "", "", paper=False))
    rng = np.random.default_rng(0)
    skill = np.sort(rng.normal(0.5, 0.6, methods))
    difficulty = {suite.name: rng.normal(0, 1.5, images) for suite in suites}
    labels = rng.integers(0, CLASSES, images)
    for index in range(methods):
        clean = rng.random(images) < 1 / (1 + np.exp(difficulty["clean"] - skill[index]))
        for suite in suites:
            measured = {
                name: _outcomes(rng, suite, labels, difficulty[suite.name] - skill[index], clean)
                for name in _names(suite)
            }
            write_result(folder, _result(suite, f"method{index:04d}", measured), measured)


def _names(suite: Suite) -> list[str]:
    if suite.lower_is_better:
        return [f"{corruption}/{severity}" for corruption in ALEXNET_ERROR for severity in SEVERITIES]
    return [condition.name for condition in suite.conditions()]


def _outcomes(
    rng: np.random.Generator,
    suite: Suite,
    labels: np.ndarray,
    difficulty: np.ndarray,
    clean: np.ndarray,
) -> Outcomes:
    """Random outcomes; of an attack, on images of which those that are not right in `clean` are not attacked."""
    right = clean if suite.name == "clean" else rng.random(len(labels)) < 1 / (1 + np.exp(difficulty))
    attacked = suite.conditions()[0].attack is not None
    split = "clean" if attacked else suite.name
    ids = np.array([f"{split}/{i:05d}" for i in range(len(labels))])
    predictions = np.where(right & clean if attacked else right, labels, (labels + 1) % CLASSES)
    if not attacked:
        return Outcomes(ids, labels, predictions)
    norms = np.where(clean, 1 + rng.random(len(labels)), 0).astype(np.float32)
    return Outcomes(
        ids,
        labels,
        predictions,
        {
            "predictions_clean": np.where(clean, labels, (labels + 1) % CLASSES),
            "predictions_uint8": predictions,
            "linf": norms,
            "l2": norms,
        },
    )


def _result(suite: Suite, method: str, measured: dict[str, Outcomes]) -> Result:
    settings = {} if suite.lower_is_better else {c.name: c for c in suite.conditions()}
    conditions = [_described(suite, name, settings.get(name), one) for name, one in measured.items()]
    provenance = {
        "normalisation": "own",
        "preprocessing": "crop 48",
        "recipe": None,
        "weights_digest": method,
        "parent_digest": "p",
        "method_version": 1,
        "limit": None,
        "date": "2025-01-01",
        "history": [],
        "seconds": 1.0,
        "command": f"nsbench run --method {method} --suite {suite.name}",
    }
    score = _mce(measured) if suite.lower_is_better else accuracy(measured)
    return Result(
        "shapes10",
        "vit_shapes10",
        method,
        suite.name,
        0,
        score,
        suite.unit,
        suite.lower_is_better,
        suite.title,
        suite.group,
        suite.order,
        suite.paper,
        suite.version,
        suite.summary,
        suite.citation,
        method,
        "Made up.",
        1,
        conditions,
        provenance,
        f"{method}{suite.name}",
    )


def _described(suite: Suite, name: str, setting: Condition | None, one: Outcomes) -> dict[str, Any]:
    """A condition as the runner stores it, with an attack card of ten steps where something is attacked."""
    attack = setting.attack if setting else None
    card = {
        "attack": attack,
        "norm": setting.threat.norm if setting and setting.threat else None,
        "eps": None,
        "library": "nsbench",
        "seconds": 0.01,
        "images": len(one),
        "forwards": 11,
        "backwards": 10,
        "steps": 10,
        "looked_at": 8,
        "zero_gradients": 0,
    }
    return {
        "name": name,
        "split": setting.split if setting else f"c/{name}",
        "attack": attack,
        "params": dict(setting.params) if setting else {},
        "preprocess": "checkpoint",
        "n": len(one),
        "threat": str(setting.threat) if setting and setting.threat else None,
        "origin": "embedded",
        "data_digest": "clean" if attack else suite.name,
        "accuracy": 100 * float(one.correct.mean()),
    } | ({"attack_card": card} if attack else {})


def _mce(measured: dict[str, Outcomes]) -> Score:
    """mCE with the normal interval: a bootstrap of each of a thousand methods is not what is timed here."""
    values = sum(MCE_WEIGHTS[name] * ~one.correct for name, one in measured.items())
    half = 1.96 * float(np.std(values)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return Score(mean, mean - half, mean + half, len(values), {"mean error": 50.0})


if __name__ == "__main__":
    main()
