"""Stand-ins for the work of a task, not for the engine: sleeps instead of trainings and evaluations, and mishaps.

They import no torch, so that many workers fit into a small machine. What a double knows lies beside the results folder:
`template.json` and `template.parquet`, a stored result that every pair gets under its own name, and `marks/`.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nsbench.run.engines.work import Answer, Files, Fit, FitWork, Measured, Refused, Sent, Trouble, Work

FIT, PAIR = float(os.environ.get("NSBENCH_TEST_FIT", "0.05")), float(os.environ.get("NSBENCH_TEST_PAIR", "0.05"))
FAILS = float(os.environ.get("NSBENCH_TEST_FAILS", "0"))


@cache
def _template(folder: Path) -> tuple[dict[str, Any], bytes]:
    return json.loads((folder / "template.json").read_bytes()), (folder / "template.parquet").read_bytes()


def asleep(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    """Sleeps, and gives the template's result; with probability FAILS its worker dies before the end."""
    time.sleep(FIT if isinstance(work, FitWork) else PAIR)
    if random.SystemRandom().random() < FAILS:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(sent, work)


def answer(sent: Sent, work: Work) -> Answer:
    """What a training or a pair gives that took no work."""
    if isinstance(work, FitWork):
        return Fit({f"{work.key}.safetensors": b"weights", f"{work.key}.json": b"{}"})
    record, outcomes = _template(sent.options.results.parent)
    own = {"method": work.method, "suite": work.suite, "seed": work.seed, "identity": work.identity}
    return Measured(json.dumps(record | own).encode(), outcomes, b"")


def _first_time(sent: Sent, name: str) -> bool:
    """Whether no worker has been here before."""
    marks = sent.options.results.parent / "marks"
    marks.mkdir(exist_ok=True)
    try:
        os.close(os.open(marks / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_each(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    """The worker of the first training and that of the first pair are killed; afterwards the work is done as it is."""
    from nsbench.run.engines.worker import perform

    if _first_time(sent, type(work).__name__):
        _die()
    return perform(sent, work, weights)


def killed_always(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    """The worker of every training is killed."""
    if isinstance(work, FitWork):
        _die()
    return answer(sent, work)


def full_on_one(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    """One of the machines, which `marks/` names, has no room on its disk."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    full = sent.options.results.parent / "full"
    if not full.exists() and _first_time(sent, "full"):
        full.write_text(node)
    time.sleep(0.2)
    if full.exists() and full.read_text() == node:
        return Trouble(f"/cache: cannot keep the fitted weights ({os.strerror(errno.ENOSPC)})", "node1")
    return answer(sent, work)


def killed_once(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    """The first worker of each work is killed."""
    if _first_time(sent, work.key if isinstance(work, FitWork) else work.identity):
        _die()
    return answer(sent, work)


def slow_once(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    """The first worker sleeps until somebody ends it."""
    if _first_time(sent, "slow"):
        time.sleep(600)
    return Refused("done by the second")


def slow(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    """Sleeps until somebody ends it."""
    _first_time(sent, f"slow{os.getpid()}")
    time.sleep(600)
    return Refused("has slept")


def raises(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    raise ValueError("a mistake\nof two lines")


def gives_nothing(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    return None  # type: ignore[return-value]


def weighed(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    """Says which files it got."""
    return Refused(" ".join(f"{name}={content.decode()}" for files in weights for name, content in files.items()))


def troubled(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    """The first machine lacks the data."""
    if _first_time(sent, "trouble"):
        return Trouble("data are not here", "host")
    return Refused("done elsewhere")
