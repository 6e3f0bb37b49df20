"""`nsbench export`: what was fitted, in forms that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nsbench import registry
from nsbench.cli.completion import complete_methods, complete_recipes
from nsbench.cli.options import include, model_options
from nsbench.cli.stopping import GOES_ON, when_stopped
from nsbench.cli.values import settings_of
from nsbench.errors import UsageError
from nsbench.files import importing


@click.group()
def export() -> None:
    """Write fitted models for other programs."""


@export.command("weights")
@click.option(
    "--method",
    required=True,
    shell_complete=complete_methods,
    help="The method that fits the model; first+second goes on from the first.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="A new folder: model.safetensors, config.json, README.md.",
)
@include
@model_options
@click.option(
    "--recipe",
    shell_complete=complete_recipes,
    help="Finetuning recipe. Default: the data source's own. See: nsbench list recipes",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="FIELD=VALUE",
    callback=settings_of,
    help="Change a field of the recipe, or METHOD.NAME=VALUE a setting of the method's own.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that decode images. Moves no weight.")
def weights(method: str, out: Path, seed: int, **options: Any) -> None:
    """Write a fitted model as timm does: loaded by timm and by nsbench with local-dir:DIR, with the same logits.

    The options select the model as those of `nsbench run` do; one that was fitted before is not trained again.
    """
    when_stopped(GOES_ON)
    registry.load_content()
    chosen = registry.resolve_methods(method)
    if len(chosen) != 1:
        raise UsageError(f"--method {method}: name one method, whose weights are written")
    from nsbench.progress import ConsoleProgress

    with importing():
        from nsbench.run.export import export_weights
        from nsbench.run.options import RunOptions

    for path in export_weights(RunOptions(chosen, (), seeds=(seed,), **options), out, ConsoleProgress()):
        click.echo(str(path))
