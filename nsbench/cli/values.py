"""What is given to commands as text, and what it means. click calls each with a context, a parameter and the text."""

from __future__ import annotations

from pathlib import Path

import click

from nsbench import registry
from nsbench.errors import UsageError


def triple_of(context: click.Context, parameter: click.Parameter, given: str | None) -> tuple[float, ...] | None:
    """ "0.5,0.5,0.5" -> (0.5, 0.5, 0.5); one number stands for all three."""
    if given is None:
        return None
    try:
        values = tuple(float(part) for part in given.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3):
        raise UsageError(f"--{parameter.name} {given}: give three numbers, such as 0.5,0.5,0.5")
    return values * 3 if len(values) == 1 else values


def settings_of(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """("rounds=5",) -> {"rounds": "5"}."""
    for setting in given:
        if "=" not in setting:
            raise UsageError(f"--set {setting}: write FIELD=VALUE, such as --set rounds=5")
        if setting.partition("=")[0].strip() == "seed":
            raise UsageError(f"--set {setting}: the recipe takes the run's seed; give it with --seed")
    return _by_name(given)


def attack_settings_of(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """("eot=16",) -> {"eot": "16"}."""
    for setting in given:
        if not all(part.strip() for part in setting.partition("=")):
            raise UsageError(f"--set-attack {setting}: write NAME=VALUE, such as --set-attack eot=16")
    return _by_name(given)


def seeds_of(context: click.Context, parameter: click.Parameter, given: str) -> tuple[int, ...]:
    """ "0,1,2" -> (0, 1, 2)."""
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in given.split(",")))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise UsageError(f"--seed {given}: give whole numbers from 0 on, such as --seed 0,1,2")
    return seeds


def suites_of(context: click.Context, parameter: click.Parameter, given: str) -> tuple[str, ...]:
    if not given:
        return ()
    registry.load_content()
    return registry.resolve_suites(given)


def note_included(context: click.Context, parameter: click.Parameter, value: tuple[Path, ...]) -> None:
    registry.included[:] = value


def about_of(context: click.Context, parameter: click.Parameter, value: Path | None) -> object:
    from nsbench.results.about import read_about

    return read_about(value) if value else None


def engine_of(context: click.Context, parameter: click.Parameter, given: str) -> str:
    if given not in ("local", "ray", "slurm") and not (given.startswith("ray://") and given != "ray://"):
        raise UsageError(f"--engine {given}: give local, slurm, ray, or ray://ADDRESS, such as ray://head:6379")
    return given


def slurm_of(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """("partition=gpu",) -> {"partition": "gpu"}."""
    for setting in given:
        if not setting.partition("=")[0].strip() or "=" not in setting:
            raise UsageError(f"--slurm {setting}: write KEY=VALUE, such as --slurm partition=gpu")
    return _by_name(given)


def _by_name(settings: tuple[str, ...]) -> dict[str, str]:
    """Each is NAME=VALUE, which was checked."""
    return {name.strip(): value.strip() for name, _, value in (one.partition("=") for one in settings)}
