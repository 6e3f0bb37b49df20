"""What a run was asked for. It travels to workers, of which those that only wait need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nsbench.errors import UsageError, is_line
from nsbench.models.preparation import Preparation
from nsbench.results.record import About
from nsbench.types import LARGEST_COUNT

EMBEDDED = "shapes10"  # the data source where none is named


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
    slurm: Mapping[str, str] = field(default_factory=dict)  # as text: what jobs of SLURM ask for

    def __post_init__(self) -> None:
        """Raises UsageError for what a result could state and nobody could share."""
        if not is_line(self.name):
            raise UsageError(f"name {self.name!r}: holds characters that are not seen; give a line of text")
        if too_large := [seed for seed in self.seeds if seed > LARGEST_COUNT]:
            raise UsageError(f"seed {too_large[0]}: is too large; give a whole number up to {LARGEST_COUNT:,}")
