"""What a job of SLURM asks for: `[tool.nsbench.slurm]` of the project that one is in, and options, which win."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nsbench import registry
from nsbench.errors import UsageError

if TYPE_CHECKING:
    from nsbench.run.options import RunOptions

NAME = "slurm"  # of the engine, of its table in pyproject.toml, and of its option
LIKE = "give minutes, H:MM:SS or D-HH:MM:SS"
TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?", re.ASCII)


def _minutes(given: object) -> object:
    """A time as `sbatch --time` takes it, in minutes, rounded up. Raises ValueError."""
    if not isinstance(given, str):
        return given
    if (found := TIME.fullmatch(given.strip())) is None:
        raise ValueError(LIKE)
    days, *parts = (found[name] for name in ("days", "first", "second", "third"))
    numbers = [int(part) for part in parts if part is not None]
    if days is None and len(numbers) < 3:  # minutes, or minutes and seconds
        numbers = [0, *numbers]
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    return (int(days or 0) * 24 + hours) * 60 + minutes + -(-seconds // 60)


def _lines(given: object) -> object:
    return (given,) if isinstance(given, str) else given


Word = Annotated[str, Field(pattern=r"^\S*$")]  # "": it is not asked for


class SlurmSettings(BaseModel):
    """Of all jobs of a run. What is not given is the cluster's own default, where nothing else is said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: Word = ""
    account: Word = ""
    qos: Word = ""
    constraint: Word = ""
    time: Annotated[int, BeforeValidator(_minutes), Field(ge=5)] = 240  # minutes that a job may take
    gpus: Annotated[int, Field(ge=0)] | None = None  # None: one, and none with --device cpu
    cpus: Annotated[int, Field(ge=1)] | None = None  # None: four with a GPU, else one
    memory: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # GB
    max_jobs: Annotated[int, Field(ge=1)] = 64  # in the queue at a time
    requeues: Annotated[int, Field(ge=0)] = 10  # of a training whose time ran out
    setup: Annotated[tuple[str, ...], BeforeValidator(_lines)] = ()  # lines of shell that a job begins with

    def filled(self, gpus: int) -> SlurmSettings:
        """With so many GPUs where nothing is said of them, and cores for these."""
        gpus = self.gpus if self.gpus is not None else gpus
        return self.model_copy(update={"gpus": gpus, "cpus": self.cpus or (4 if gpus else 1)})

    def describe(self) -> str:
        """For people: what each job asks for."""
        places = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint")}
        parts = [f"{name} {value}" for name, value in places.items() if value]
        hours, minutes = divmod(self.time, 60)
        amounts = [f"{self.gpus} GPU"] if self.gpus else []
        amounts += [f"{self.cpus} CPU"] if self.cpus else []
        amounts += [f"{self.memory:g} GB"] if self.memory else []
        return ", ".join([*parts, *amounts, f"at most {hours}:{minutes:02}:00"])


def slurm_settings(options: RunOptions) -> SlurmSettings:
    """What the run's jobs ask for. Raises UsageError for a setting that is none, or has no value of it."""
    project, stated = registry.of_project(NAME) or ("", {})
    if not isinstance(stated, Mapping):
        raise UsageError(f'{project}: [tool.nsbench] {NAME} must be a table, such as {NAME} = {{ partition = "gpu" }}')
    _check(stated, lambda key: f"{project}: [tool.nsbench.{NAME}] {key} = {stated[key]!r}")
    given = dict(options.slurm)
    _check(given, lambda key: f"--{NAME} {key}={given[key]}")
    tasks = {"cpus": options.task_cpus, "gpus": options.task_gpus, "memory": options.task_memory}
    asked = {name: value for name, value in tasks.items() if value is not None}
    _check(asked, lambda key: f"--task-{key} {asked[key]:g}")
    for key in given.keys() & asked.keys():
        raise UsageError(f"--{NAME} {key}={given[key]} and --task-{key} {asked[key]:g}: give one of them")
    return SlurmSettings.model_validate({**stated, **given, **asked})


def _check(values: Mapping[str, object], named: Callable[[str], str]) -> None:
    """Raises UsageError for the first one that is wrong. `named`: how a key was given."""
    try:
        SlurmSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{named(key)}: is no setting; known: {', '.join(SlurmSettings.model_fields)}") from error
        raise UsageError(f"{named(key)}: {first['msg'].removeprefix('Value error, ')}") from error
