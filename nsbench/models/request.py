"""A model as it was asked for: what every place that models come from is handed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nsbench.errors import UsageError
from nsbench.models.preparation import Preparation


@dataclass(frozen=True)
class Request:
    """A model as it was asked for."""

    name: str  # all that was written, such as "hf-hub:owner/name@v1"
    rest: str  # behind the place and its colon
    checkpoint: Path | None = None
    normalisation: str = "own"
    asked: Preparation = field(default_factory=Preparation)  # with the mean and std of a named normalisation
    which: str = "ema"
    crop_pct: float | None = None  # the data source's, where neither the caller nor the user's own code says one

    def without_checkpoint(self) -> None:
        """Raises UsageError where a file was given to a place that has its own."""
        if self.checkpoint is not None:
            raise UsageError(
                f"--checkpoint {self.checkpoint}: model '{self.name}' comes with its own weights; leave it out"
            )

    def unprepared(self, what: str) -> None:
        """Raises UsageError where another preparation was asked for than that of `what`."""
        if self.asked.said():
            raise UsageError(
                f"{', '.join(self.asked.said())}: {what} normalises inside and has its own preparation; leave it so"
            )
