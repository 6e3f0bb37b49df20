"""Two processes of one thread against one process of one thread: an evaluation, and rounds of NS.

    python tests/benchmarks/processes.py [--processes 2] [--repeat 3] [--images 1000]

Needs as many idle cores as processes. Each command is `nsbench run` on shapes10, alone or under torchrun; what counts are
the seconds that its results state: of a pair (the curve of FGSM), and of a training's second and later rounds. Both sides
take turns, and the quickest of each counts. Efficiency is the time of one process divided by that of N, and by N. To
expect: at least 0.9 for the evaluation and 0.85 for a round (exit status 1 if it is less), and the same figures.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from nsbench.results import Result, read_results

EVALUATION, ROUND = 0.9, 0.85
FIT = ("--method", "ns", "--suite", "clean", "--set", "rounds=4")


def main() -> int:
    parser = argparse.ArgumentParser(description="Efficiency of several processes.")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    asked = parser.parse_args()
    look = ("--method", "pretrained", "--suite", "fgsm", "--limit", str(asked.images))
    _run(1, *FIT, "--set", "rounds=1", "--set", "steps_per_round=1")  # shapes10 is drawn, files are in memory
    seconds: dict[tuple[str, int], float] = {}
    figures: dict[str, list[float]] = {"evaluation": [], "round of NS": []}
    for _ in range(asked.repeat):
        for count in (1, asked.processes):
            evaluated, fitted = _run(count, *look), _run(count, *FIT)
            later = [one.seconds for one in fitted.provenance.history[1:]]
            for what, took, result in (
                ("evaluation", evaluated.provenance.seconds, evaluated),
                ("round of NS", sum(later) / len(later), fitted),
            ):
                seconds[what, count] = min(took, seconds.get((what, count), took))
                figures[what].append(result.score.value)
    missed = False
    for what, least in (("evaluation", EVALUATION), ("round of NS", ROUND)):
        alone, together = seconds[what, 1], seconds[what, asked.processes]
        efficiency = alone / together / asked.processes
        spread = max(figures[what]) - min(figures[what])
        missed |= efficiency < least or spread > 0.2  # of 1,000 images two may differ by rounding
        print(
            f"{what}: {alone:.2f} s in one process, {together:.2f} s in {asked.processes}: efficiency {efficiency:.2f} "
            f"(target {least}); figures differ by {spread:.2f} points at most"
        )
    return int(missed)


def _run(processes: int, *options: str) -> Result:
    """The result of a command in folders of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        cache = os.environ.get("NSBENCH_CACHE") or str(Path(tempfile.gettempdir()) / "nsbench-benchmark")
        command = [sys.executable, *(launcher if processes > 1 else []), "-m", "nsbench", "run", *options]
        subprocess.run(
            [*command, "--force", "--device", "cpu", "--results", folder],
            env={**os.environ, "OMP_NUM_THREADS": "1", "NSBENCH_CACHE": cache},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        (result,) = read_results(Path(folder))[0]
        return result


if __name__ == "__main__":
    sys.exit(main())
