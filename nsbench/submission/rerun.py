"""Running a sample of submitted images again, where the weights and the images are at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nsbench import registry
from nsbench.errors import ResultError
from nsbench.progress import SILENT, Progress
from nsbench.results import Result
from nsbench.types import Condition, Outcomes

if TYPE_CHECKING:
    from nsbench.data import DataSource, Split
    from nsbench.models import Model


class Rerunner:
    """`check`'s `rerun` for one model and one data source. Every image's outcome is its own, whatever its batch."""

    def __init__(self, model: Model, source: DataSource, *, batch_size: int = 64, progress: Progress = SILENT) -> None:
        import nsbench.attacks  # noqa: F401  (fills the registry of attacks)
        from nsbench.models import weights_digest
        from nsbench.run.known import Memory

        self.model, self.source, self.batch_size, self.progress = model, source, batch_size, progress
        self.digest, self.memory = weights_digest(model), Memory()

    def __call__(self, result: Result, wanted: Mapping[str, Sequence[str]]) -> dict[str, Outcomes]:
        """Outcomes of these images by condition. Raises ResultError, saying why, where it cannot be done here."""
        from nsbench.data.source import Subset
        from nsbench.run.evaluate import evaluate

        self._check(result)
        outcomes = {}
        for condition in registry.suites[result.suite].conditions():
            split = self._split(condition, result)
            if split.digest != result.condition(condition.name).data_digest:
                raise ResultError(f"the images of '{split.name}' here are not those it was evaluated on")
            position = {image_id: k for k, image_id in enumerate(split.ids.tolist())}
            indices = np.sort([position[image_id] for image_id in wanted[condition.name]])
            evaluation = evaluate(
                self.model,
                Subset(split, indices),
                condition,
                seed=result.seed,
                batch_size=self.batch_size,
                progress=self.progress,
                memory=self.memory,
                label=f"{result.method} x {result.suite} · {condition.name}",
            )
            outcomes[condition.name] = evaluation.outcomes
        return outcomes

    def _check(self, result: Result) -> None:
        own = result.provenance
        if result.source != self.source.name:
            raise ResultError(f"its data source is '{result.source}', here is '{self.source.name}'")
        if own.weights_digest != self.digest:
            raise ResultError(f"its weights have digest {own.weights_digest}, those here {self.digest}")
        here = tuple(self.model.mean), tuple(self.model.std)
        if own.mean and (own.mean, own.std) != here:  # the oldest results do not say
            raise ResultError(
                f"its model normalises by mean {list(own.mean)} and std {list(own.std)}; try --normalisation "
                f"{own.normalisation}"
            )

    def _split(self, condition: Condition, result: Result) -> Split:
        from nsbench.data.sized import for_model

        resized = result.condition(condition.name).resized_from is not None
        split = for_model(
            self.source.split(condition.split, self.progress), condition.preprocess, self.model.input_size, resized
        )
        return split.limited(condition.limit).limited(result.provenance.limit)
