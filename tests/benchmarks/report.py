"""Seconds and memory of the report for a public leaderboard: 1,000 methods x 12 suites x 1,000 images.

    python tests/benchmarks/report.py [--methods 1000] [--images 1000] [--keep FOLDER]

Results are made up (images differ in difficulty, methods in skill) in a temporary folder, or once in the one to keep.
Their outcomes hold all that the runner stores, probabilities and five best classes included: about 0.8 GB in all. The
board is made twice, by a process each: with an empty cache, and again, with what the first one kept. The aim is at most
8 s of CPU and 500 MiB for imports, reading, statistics and rendering together, where nothing else runs on the machine's
cores: CPU seconds double where several processes share a core.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nsbench import registry, report
from nsbench.leaderboard import Kept, build
from nsbench.results import AttackCard, ConditionResult, Result, read_results, write_result
from nsbench.statistics import accuracy
from nsbench.statistics.combined import per_image
from nsbench.statistics.corruption_error import MCE_WEIGHTS
from nsbench.types import PROBABILITY_STEP, Composition, Condition, Outcomes, Score, Suite

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import made

CLASSES = 10
MOST_SECONDS, MOST_MIB = 8.0, 500.0  # of CPU, imports included; peak
CARD = AttackCard(images=1, forwards=11, backwards=10, seconds=0.01, looked_at=8, library="nsbench", steps=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", type=int, default=1000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="where to keep the made-up results, or where they lie already")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # what the two processes are given
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary) / "results"
        if not folder.is_dir():
            make(folder, options.methods, options.images)
        own = {"NSBENCH_CACHE": str(Path(temporary) / "cache")}
        for which in ("the first time", "again"):
            print(f"{which}: ", end="", flush=True)
            subprocess.run([sys.executable, __file__, "--measure", folder], env=os.environ | own, check=True)


def measure(folder: Path) -> None:
    """In a process of its own, whose peak and CPU seconds these are."""
    start = time.perf_counter()
    results, problems = read_results(folder)
    read = time.perf_counter()
    board = build(results, problems, kept=Kept.of_user())
    built = time.perf_counter()
    page = report.to_html(board)
    rendered = time.perf_counter()
    peak, work = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time()
    print(
        f"{len(results):,} results: read {read - start:.1f} s, statistics {built - read:.1f} s, "
        f"page {rendered - built:.1f} s ({len(page) / 1e6:.1f} MB); all {rendered - start:.1f} s, "
        f"{work:.1f} s of CPU with imports, peak memory {peak:,.0f} MiB"
    )
    for what, found, most in (("s of CPU", work, MOST_SECONDS), ("MiB", peak, MOST_MIB)):
        print(f"{'kept' if found <= most else 'missed'}: {found:,.1f} {what}, at most {most:,.0f} are the aim")
    paired = sum(not cell.unpaired for table in board.tables for row in table.rows for cell in row.cells.values())
    print(f"{paired:,} cells are compared image by image; {len(problems)} problems")


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
                condition.name: _outcomes(rng, suite, labels, difficulty[suite.name] - skill[index], clean)
                for condition in suite.conditions()
            }
            write_result(folder, _result(suite, f"method{index:04d}", measured), measured)


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
    predictions = np.where(right & clean if attacked else right, labels, (labels + 1) % CLASSES)
    confidence = (rng.random(len(labels)) / PROBABILITY_STEP).round() * PROBABILITY_STEP
    norms = np.where(clean, 1 + rng.random(len(labels)), 0).astype(np.float32)
    extra = {
        "predictions_clean": np.where(clean, labels, (labels + 1) % CLASSES),
        "predictions_uint8": predictions,
        "linf": norms,
        "l2": norms,
    }
    return Outcomes(
        ids=np.array([f"{split}/{i:05d}" for i in range(len(labels))]),
        labels=labels,
        predictions=predictions,
        extra=extra if attacked else {},
        label_probability=np.where(predictions == labels, confidence, confidence / 2).astype(np.float32),
        confidence=confidence.astype(np.float32),
        top5=(predictions[:, None] + np.arange(5)) % CLASSES,
    )


def _result(suite: Suite, method: str, measured: dict[str, Outcomes]) -> Result:
    """As the runner stores it."""
    return made.result(
        method=method,
        suite=suite.name,
        score=_mce(measured) if suite.lower_is_better else accuracy(measured),
        unit=suite.unit,
        lower_is_better=suite.lower_is_better,
        title=suite.title,
        group=suite.group,
        order=suite.order,
        paper=suite.paper,
        suite_version=suite.version,
        summary=suite.summary,
        citation=suite.citation,
        conditions=tuple(_condition(suite, one, measured[one.name]) for one in suite.conditions()),
        identity=f"{method}{suite.name}",
        weights_digest=method,
        command=f"nsbench run --method {method} --suite {suite.name}",
    )


def _condition(suite: Suite, one: Condition, outcomes: Outcomes) -> ConditionResult:
    """With an attack card of ten steps where something is attacked."""
    return made.condition(
        one.name,
        outcomes,
        split=one.split,
        attack=one.attack,
        params=dict(one.params),
        threat=one.threat,
        beforehand=one.beforehand,
        data_digest="clean" if one.attack else suite.name,
        attack_card=CARD if one.attack else None,
    )


def _mce(measured: dict[str, Outcomes]) -> Score:
    """mCE with the normal interval: a bootstrap of each of a thousand methods is not what is timed here."""
    made_of = Composition(MCE_WEIGHTS, "wrong")
    values = per_image(measured, made_of)
    mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
    error = 100 - 100 * float(np.mean([one.correct.mean() for one in measured.values()]))
    return Score(mean, mean - half, mean + half, len(values), {"mean error": error}, made_of)


if __name__ == "__main__":
    main()
