"""An engine of jobs for tests, and small steps for it. Jobs of it import no torch, so that they start in a second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nsbench.progress import SILENT, Progress
from nsbench.run.engines.scheduler import Step
from nsbench.run.engines.slurm import Slurm
from nsbench.run.engines.slurm_settings import SlurmSettings
from nsbench.run.engines.work import FitWork, PairWork, Perform, Sent, Work

SETTINGS = SlurmSettings(cpus=1, max_jobs=2)


def fit(key: str = "key") -> FitWork:
    return FitWork("finetune", 0, None, key)


def pair(identity: str = "identity", weights: tuple[str, ...] = ()) -> PairWork:
    return PairWork("pretrained", "clean", 0, None, identity, weights)


def steps(works: Iterable[Work]) -> list[Step[Work]]:
    return [Step(work.key if isinstance(work, FitWork) else work.identity, work) for work in works]


def started(folder: Path, perform: Perform, progress: Progress = SILENT, settings: SlurmSettings = SETTINGS) -> Slurm:
    """In place of RunOptions, which know torch, what the engine and the doubles of work read of them."""
    asked: Any = SimpleNamespace(device="cpu", results=folder / "results")
    sent = Sent(asked, {}, (), {}, "", "")
    return Slurm(asked, settings, sent, lambda key: {key: b"of " + key.encode()}, progress, perform)


def submitted(engine: Slurm, *works: Work) -> None:
    for step in steps(works):
        engine.submit(step)
    assert engine.wait(0) == []
