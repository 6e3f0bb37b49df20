"""What all pairs of one run share: the options, the data, the checkpoint, the recipe and the device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nsbench import models, processes, provenance, registry, training
from nsbench.data import DataSource
from nsbench.errors import NsbenchError
from nsbench.models.preparation import Preparation
from nsbench.progress import Progress
from nsbench.results.record import About
from nsbench.run.opening import EMBEDDED, open_all
from nsbench.run.own_settings import of_recipe, require_known, with_settings
from nsbench.types import Method

if TYPE_CHECKING:
    from nsbench.models import Model
    from nsbench.training import Recipe


@dataclass(frozen=True)
class RunOptions:
    """What `nsbench run` was asked for; names are resolved and known."""

    methods: tuple[str, ...]
    suites: tuple[str, ...]
    data: str = EMBEDDED
    follow_links: bool = False  # in the data, out of their set
    model: str | None = None
    checkpoint: Path | None = None
    normalisation: str = "own"
    asked: Preparation | None = None  # how images are prepared, in place of what the checkpoint declares
    which: str = "ema"  # weights of a file that has averaged and raw ones: "ema" or "raw"
    name: str = ""  # of the checkpoint, in rows
    class_map: str | None = None  # what the model's outputs mean: a file, or a name of run.class_maps.NAMES
    class_map_by: str = "sum"  # several outputs of one class: "sum" of probabilities, or "max"
    about: About | None = None  # whose the rows are
    command: str = ""  # what provenance states; by default the command line
    recipe: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # as text: fields of the recipe, and METHOD.NAME
    seeds: tuple[int, ...] = (0,)
    match: str = "steps"  # methods get equal steps, or equal "compute": as many forward passes as ns took
    watch: int = 0  # evaluate on a few images every so many rounds of a training; 0: never
    watch_suites: tuple[str, ...] = ()  # on which suites; (): those that say that they are watched
    log: str | None = None  # where rounds are sent too: tensorboard or wandb
    limit: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    device: str = "auto"
    results: Path = Path("reports/results")
    corruption_engine: str = "nsbench"  # makes ImageNet-C where it is not on disk
    surrogate: str | None = None  # NAME[:CHECKPOINT] that transfer sets are made on; None: the one the source names
    force: bool = False
    allow_missing: bool = False  # accept results without the images that cannot be read
    resize_ready: bool = False  # evaluate ready images of another size than the model's, resized and labelled so
    weights: Path | None = None  # folder of fitted weights; None: in the user's cache
    engine: str = "local"  # where the work is done: here, or "ray", "ray://ADDRESS" or "slurm"
    shard_images: int | None = None  # of a condition, in one task of a cluster; None: all
    task_cpus: float | None = None  # of each task of a cluster; None: what suits its machines
    task_gpus: float | None = None
    task_memory: float | None = None  # GB
    slurm: Mapping[str, str] = field(default_factory=dict)  # as text: what jobs ask for, beside pyproject.toml


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
        cores = (os.cpu_count() or 1) // processes.local_count()
        return min(8, max(1, cores)) if cuda else max(1, torch.get_num_threads() // 4)


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
