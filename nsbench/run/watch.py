"""What is done after each round of a training, when asked: a small evaluation, and a line to a logger."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbench import registry
from nsbench.errors import MissingSplit, UsageError
from nsbench.run.evaluate import Memory, evaluate
from nsbench.run.job import Job

if TYPE_CHECKING:
    from nsbench.models import Model

WATCHED = ("clean", "fgsm", "imagenet_r")  # one of each kind in the paper's figure 4: clean, adversarial, shifted
IMAGES = 200  # of each, the same ones every time


class Watcher:
    """Hears of every finished round: `watcher(method, model, entry)`; may add to the entry, moves no weight."""

    def __init__(self, job: Job) -> None:
        self.job, self.missing = job, set[str]()
        self.loggers: dict[str, Any] = {}

    def __call__(self, method: str, model: Model, entry: dict[str, Any]) -> None:
        if self.job.options.watch and entry["round"] % self.job.options.watch == 0:
            entry |= self._metrics(model)
        if self.job.options.log:
            if method not in self.loggers:
                self.loggers[method] = LOGGERS[self.job.options.log](
                    self.job.options.results / "logs", f"{method}.seed{self.job.seed}", self.job.recipe.model_dump()
                )
            self.loggers[method].log(entry)

    def close(self) -> None:
        for logger in self.loggers.values():
            logger.close()

    def _metrics(self, model: Model) -> dict[str, float]:
        """Accuracy in percent by suite, on a stable subset."""
        job, memory, found = self.job, Memory(), {}
        for name in WATCHED:
            condition = registry.suites[name].conditions()[0]
            try:
                split = job.source.split(condition.split, job.progress).limited(IMAGES)
            except MissingSplit as error:
                if name not in self.missing:  # said once
                    job.progress.line(f"not watched: {error}", style="yellow")
                self.missing.add(name)
                continue
            outcome = evaluate(
                model, split, condition, seed=job.seed, batch_size=job.batch_size, workers=job.workers, memory=memory
            )
            found[f"accuracy_{name}"] = round(100 * float(outcome.correct.mean()), 2)
        return found


class _TensorBoard:
    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / name))
        self.writer.add_text("recipe", "\n".join(f"    {key} = {value}" for key, value in config.items()))

    def log(self, entry: dict[str, Any]) -> None:
        for key, value in entry.items():
            if isinstance(value, (int, float)) and key != "step":
                self.writer.add_scalar(key, value, entry["step"])
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

    def log(self, entry: dict[str, Any]) -> None:
        self.run.log({key: value for key, value in entry.items() if key != "step"}, step=entry["step"])

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[str, Any] = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases}


def check_logger(kind: str) -> None:
    """Raises UsageError where a logger's package, which has its name, is not installed."""
    try:
        import_module(kind)
    except ImportError as error:
        raise UsageError(f"--log {kind}: the package is not installed ({error}); pip install {kind}") from error
