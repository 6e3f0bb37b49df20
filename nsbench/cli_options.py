"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click
from click import option

DEFAULT_RESULTS = Path("reports/results")

_RUN: list[Callable[[Any], Any]] = [
    option("--data", default="shapes10", show_default=True, help="shapes10, or the folder of an ImageNet tree."),
    option("--model", help="A timm name. Default: the data source's own model."),
    option("--checkpoint", type=click.Path(path_type=Path), help="Weights: .safetensors, or .pth (weights only)."),
    option("--normalisation", type=click.Choice(["own", "imagenet", "half"]), default="own", show_default=True,
           help="Mean and std inside the model: the checkpoint's own, ImageNet's, or 0.5."),
    option("--recipe", help="Finetuning recipe. Default: the data source's own. See: nsbench list recipes"),
    option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    option("--limit", type=click.IntRange(min=1), help="Images per condition: a stable, class-balanced subset."),
    option("--batch-size", type=click.IntRange(min=1), help="Images per batch of the evaluation. Moves no figure."),
    option("--workers", type=click.IntRange(min=0), help="Processes that decode images. Moves no figure."),
    option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    option("--results", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_RESULTS, show_default=True),
    option("--corruption-engine", type=click.Choice(["nsbench", "imagecorruptions"]), default="nsbench",
           show_default=True, help="Makes ImageNet-C where it is not on disk."),
    option("--force", is_flag=True, help="Compute again what is stored, fitted weights included."),
    option("--allow-missing", is_flag=True, help="Accept results without the images that cannot be read."),
]


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Everything that `nsbench run` can be told apart from its methods and suites: the fields of RunOptions."""
    return reduce(lambda wrapped, decorator: decorator(wrapped), reversed(_RUN), command)
