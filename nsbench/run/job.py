"""What all pairs of one run share: the options, the data, the checkpoint, the recipe and the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from nsbench import models, processes, provenance, registry, training
from nsbench.data import DataSource
from nsbench.errors import NsbenchError
from nsbench.progress import Progress
from nsbench.run.opening import open_all
from nsbench.run.options import EMBEDDED, RunOptions
from nsbench.run.own_settings import of_recipe, require_known, with_settings
from nsbench.types import Method

if TYPE_CHECKING:
    from nsbench.models import Model
    from nsbench.training import Recipe


@dataclass(frozen=True)
class Job:
    """One seed of a run."""

    options: RunOptions
    source: DataSource
    parent: Model
    parent_digest: str
    recipe: Recipe
    device: str
    progress: Progress
    seed: int
    refused: Mapping[str, NsbenchError] = field(default_factory=dict)  # suites whose attacks cannot work on the model

    def method(self, name: str) -> Method:
        """The method, or chain, with the settings of its own that the options give."""
        return with_settings(registry.methods[name], self.options.settings)

    @property
    def batch_size(self) -> int:
        return self.options.batch_size or (256 if self.device.startswith("cuda") else 64)

    @property
    def workers(self) -> int:
        """Embedded images need no decoding; files are decoded beside the model's work.

        On a CPU the decoders share its cores: one for every four threads keeps up with a ViT-Tiny and stalls it least.
        """
        if self.options.workers is not None:
            return self.options.workers
        if self.source.name == EMBEDDED:
            return 0
        cuda = self.device.startswith("cuda")
        return min(8, processes.cores()) if cuda else max(1, torch.get_num_threads() // 4)


def open_job(options: RunOptions, progress: Progress, network: Model | None = None) -> Job:
    """The job of the first seed, for `network` where that is there already.

    Raises an nsbench error where the options do not fit together.
    """
    require_known(options.settings, options.methods)
    opened = open_all(
        options.data,
        options.model,
        checkpoint=options.checkpoint,
        normalisation=options.normalisation,
        asked=options.asked,
        which=options.which,
        class_map=options.class_map,
        class_map_by=options.class_map_by,
        device=options.device,
        corruption_engine=options.corruption_engine,
        surrogate=options.surrogate,
        follow_links=options.follow_links,
        progress=progress,
        network=network,
    )
    source, parent = opened.source, opened.model
    recipe = training.load_recipe(
        options.recipe or source.default_recipe, {**of_recipe(options.settings), "seed": str(options.seeds[0])}
    )
    notes = [*parent.said, *([f"weights cast from {parent.cast_from}"] if parent.cast_from else [])]
    noted = f"; {'; '.join(notes)}" if notes else ""
    progress.line(
        f"{source.title} · {parent.name} ({parent.preprocessing.describe()}{noted}) · recipe '{recipe.name}' · "
        f"{provenance.device_name(opened.device)}",
        style="dim",
    )
    return Job(
        options, source, parent, models.weights_digest(parent), recipe, opened.device, progress, options.seeds[0]
    )
