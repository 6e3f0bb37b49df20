"""What is done after each round of a training, when asked: a small evaluation, and a line to a logger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from nsbench import processes, registry
from nsbench.data.sized import for_model
from nsbench.errors import DataError, MissingSplit, UsageError
from nsbench.results import Round
from nsbench.run.evaluate import evaluate
from nsbench.run.job import Job
from nsbench.run.kept_fits import history_table
from nsbench.run.known import Memory
from nsbench.run.options import RunOptions
from nsbench.types import Condition, Suite

if TYPE_CHECKING:
    from nsbench.models import Model

IMAGES = 200  # of each watched suite, the same ones every time


def watched_suites(options: RunOptions) -> list[Suite]:
    """Those that were asked for, or that say that they are watched."""
    if options.watch_suites:
        return [registry.suites[name] for name in options.watch_suites]
    return [suite for suite in registry.suites.values() if suite.watched]


class Watcher:
    """Called after every finished round: evaluates the watched suites, and tells loggers. It moves no weight."""

    def __init__(self, job: Job) -> None:
        self.job, self.missing = job, set[str]()
        self.loggers: dict[str, Logger] = {}

    def __call__(self, method: str, model: Model, entry: Round) -> dict[str, float]:
        """Accuracy in percent by watched suite, in the rounds that are watched."""
        watched = self.job.options.watch and entry.round % self.job.options.watch == 0
        accuracies = self._accuracies(model) if watched else {}
        if self.job.options.log and processes.number() == 0:
            if method not in self.loggers:
                self.loggers[method] = LOGGERS[self.job.options.log](
                    self.job.options.results / "logs", f"{method}.seed{self.job.seed}", self.job.recipe.model_dump()
                )
            self.loggers[method].log(replace(entry, accuracies=accuracies))
        return accuracies

    def close(self) -> None:
        for logger in self.loggers.values():
            logger.close()

    def _accuracies(self, model: Model) -> dict[str, float]:
        """On a stable subset of each suite's images: of its first condition, or, where its score is made of many
        conditions and no accuracy (C), the mean over all of them."""
        memory, accuracies = Memory(), {}
        for suite in watched_suites(self.job.options):
            conditions = suite.conditions() if suite.unit != "%" else suite.conditions()[:1]
            each = -(-IMAGES // len(conditions))
            try:
                found = [self._accuracy(model, condition, each, memory) for condition in conditions]
            except (MissingSplit, DataError) as error:
                if suite.name not in self.missing:  # said once
                    self.job.progress.line(f"not watched: {error}", style="yellow")
                self.missing.add(suite.name)
                continue
            accuracies[suite.name] = round(sum(found) / len(found), 2)
        return accuracies

    def _accuracy(self, model: Model, condition: Condition, images: int, memory: Memory) -> float:
        job = self.job
        split = job.source.split(condition.split, job.progress)
        split = for_model(split, condition.preprocess, job.parent.input_size, job.options.resize_ready).limited(images)
        one = evaluate(
            model, split, condition, seed=job.seed, batch_size=job.batch_size, workers=job.workers, memory=memory
        )
        return 100 * float(one.outcomes.correct.mean())


class Logger(Protocol):
    """Where rounds are sent."""

    def log(self, entry: Round) -> None: ...

    def close(self) -> None: ...


def _figures(entry: Round) -> dict[str, float]:
    """The figures of a round by name, without what is not known."""
    (row,) = history_table([entry]).to_dict("records")
    known = {str(key): value for key, value in row.items() if isinstance(value, int | float) and not pd.isna(value)}
    return {key: value for key, value in known.items() if key != "step"}


class _TensorBoard:
    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / name))
        self.writer.add_text("recipe", "\n".join(f"    {key} = {value}" for key, value in config.items()))

    def log(self, entry: Round) -> None:
        for key, value in _figures(entry).items():
            self.writer.add_scalar(key, value, entry.step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.run = wandb.init(project="nsbench", name=name, dir=str(folder), config=config)
        except wandb.Error as error:
            raise UsageError(f"--log wandb: {error} Or log to {folder} alone: WANDB_MODE=offline") from error

    def log(self, entry: Round) -> None:
        self.run.log(_figures(entry), step=entry.step)

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[str, Callable[[Path, str, dict[str, Any]], Logger]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WeightsAndBiases,
}


def check_logger(kind: str) -> None:
    """Raises UsageError where a logger's package, which has its name, is not installed."""
    try:
        import_module(kind)
    except ImportError as error:
        raise UsageError(f"--log {kind}: the package is not installed ({error}); pip install {kind}") from error
