"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, wraps
from pathlib import Path
from typing import Any

import click
from click import option
from click.core import ParameterSource

from nsbench.cli.completion import complete_models, complete_recipes, complete_sources, complete_suites
from nsbench.cli.values import (
    about_of,
    engine_of,
    note_included,
    seeds_of,
    settings_of,
    slurm_of,
    suites_of,
    triple_of,
)

DEFAULT_RESULTS = Path("reports/results")
WHAT, DATA, MODEL, TRAINING = "What to run", "Data", "Model", "Training"  # sections of `nsbench run --help`, in order
EVALUATION, MACHINES, OUTPUT = "Evaluation", "Machines and clusters", "Results and output"
SECTIONS = (WHAT, DATA, MODEL, TRAINING, EVALUATION, MACHINES, OUTPUT)
SECTION = "section"  # attribute of an option


class Sectioned(click.Command):
    """Its help shows options below the heading of their section; those of none come first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *SECTIONS)}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                found[getattr(parameter, SECTION, "Options")].append(record)
        for title, records in found.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def of(section: str, one: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The option, which belongs to a section of the help."""

    def marked(command: Any) -> Any:
        command = one(command)
        setattr(command.__click_params__[-1], SECTION, section)
        return command

    return marked


def section(title: str, options: list[Callable[[Any], Any]]) -> list[Callable[[Any], Any]]:
    return [of(title, one) for one in options]


_DATA: list[Callable[[Any], Any]] = [
    option(
        "--data",
        default="shapes10",
        show_default=True,
        shell_complete=complete_sources,
        help="shapes10, a folder of images, a config file, or hf: and torchvision: names. See: nsbench list sources",
    ),
    option(
        "--follow-links",
        is_flag=True,
        help="Links in the data may lead out of their set, as those of the hub's cache do.",
    ),
]

_NETWORK: list[Callable[[Any], Any]] = [
    option(
        "--model",
        shell_complete=complete_models,
        help="A timm name, hf-hub:OWNER/NAME, local-dir:FOLDER, torchvision:NAME, transformers:OWNER/NAME, "
        "robustbench:NAME, or your own code, ./FILE.py:FUNCTION. Default: the data source's own model.",
    ),
    option("--checkpoint", type=click.Path(path_type=Path), help="File of weights. Default: those of the name."),
    option(
        "--normalisation",
        type=click.Choice(["own", "imagenet", "half"]),
        default="own",
        show_default=True,
        help="Mean and std inside the model: the checkpoint's own, ImageNet's, or 0.5.",
    ),
    option(
        "--mean", metavar="R,G,B", callback=triple_of, help="Mean inside the model, instead of the checkpoint's own."
    ),
    option("--std", metavar="R,G,B", callback=triple_of, help="Standard deviation, likewise."),
    option("--crop-pct", type=float, help="The crop's share of the resized image, likewise."),
    option(
        "--img-size",
        "size",
        type=int,
        help="Side of the model's input in pixels, likewise; the position embedding is resampled where it must be.",
    ),
    option("--interpolation", help="Of the resize, likewise: bicubic, bilinear, nearest or lanczos."),
    option(
        "--weights",
        "which",
        type=click.Choice(["ema", "raw"]),
        default="ema",
        show_default=True,
        help="Of a file that has averaged and raw weights.",
    ),
    option(
        "--class-map",
        metavar="FILE|NAME",
        help="What the outputs of a head of other classes mean: a wnid or name a line, CSV or JSON; or imagenet-1k, "
        "imagenet-1001, imagenet-a, imagenet-r.",
    ),
    option(
        "--class-map-by",
        type=click.Choice(["sum", "mean", "max"]),
        default="sum",
        show_default=True,
        help="Several outputs of one class: the sum of their probabilities, or the largest logit.",
    ),
]
_MODEL = [*section(DATA, _DATA), *section(MODEL, _NETWORK)]

include = option(
    "--include",
    multiple=True,
    type=click.Path(path_type=Path),
    expose_value=False,
    is_eager=True,
    callback=note_included,
    metavar="FILE.py|DIR",
    help="Suites, methods and attacks of your own; repeatable. Also NSBENCH_INCLUDE, and pyproject.toml.",
)


_RUN: list[Callable[[Any], Any]] = [
    of(WHAT, include),
    *_MODEL,
    *section(
        TRAINING,
        [
            option(
                "--recipe",
                shell_complete=complete_recipes,
                help="Finetuning recipe. Default: the data source's own. See: nsbench list recipes",
            ),
            option(
                "--set",
                "settings",
                multiple=True,
                metavar="FIELD=VALUE",
                callback=settings_of,
                help="Change a field of the recipe, such as rounds=5, or a method's own setting, such as sam.rho=0.1; "
                "repeatable.",
            ),
            option(
                "--seed",
                "seeds",
                default="0",
                show_default=True,
                metavar="N[,N...]",
                callback=seeds_of,
                help="Several seeds, comma-separated, give the spread over seeds.",
            ),
            option(
                "--match",
                type=click.Choice(["steps", "compute"]),
                default="steps",
                show_default=True,
                help="Give every method equal steps, or as much compute as ns takes.",
            ),
            option(
                "--watch",
                type=click.IntRange(min=0),
                default=0,
                metavar="K",
                help="Evaluate on 200 images (clean, fgsm, imagenet_r) after every K rounds of a training.",
            ),
            option(
                "--watch-suites",
                metavar="NAMES",
                default="",
                shell_complete=complete_suites,
                callback=suites_of,
                help="What --watch evaluates instead, each on 200 images: suites, or a group as of --suite.",
            ),
            option("--log", type=click.Choice(["tensorboard", "wandb"]), help="Send each round there too."),
        ],
    ),
    of(
        EVALUATION,
        option("--limit", type=click.IntRange(min=1), help="Images per condition: a stable, class-balanced subset."),
    ),
    *section(
        MACHINES,
        [
            option(
                "--batch-size",
                type=click.IntRange(min=1),
                help="Images per batch of the evaluation. Moves no figure beyond rounding.",
            ),
            option("--workers", type=click.IntRange(min=0), help="Processes that decode images. Moves no figure."),
            option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
        ],
    ),
    of(
        OUTPUT,
        option(
            "--results", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_RESULTS, show_default=True
        ),
    ),
    *section(
        EVALUATION,
        [
            option(
                "--corruption-engine",
                type=click.Choice(["nsbench", "imagecorruptions"]),
                default="nsbench",
                show_default=True,
                help="Makes ImageNet-C where it is not on disk.",
            ),
            option(
                "--surrogate",
                metavar="NAME[:CHECKPOINT]",
                help="What the transfer suite attacks. Default: what the data source names.",
            ),
        ],
    ),
    *section(
        OUTPUT,
        [
            option(
                "--name",
                default="",
                help="What to call the checkpoint in rows. Default: its file's name where rows need one.",
            ),
            option(
                "--about",
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                callback=about_of,
                metavar="FILE.toml",
                help="Whose the rows are: title, authors, paper, code, weights, licence, date; shown and linked. "
                "Moves no figure.",
            ),
            option("--force", is_flag=True, help="Compute again what is stored, fitted weights included."),
        ],
    ),
    *section(
        EVALUATION,
        [
            option("--allow-missing", is_flag=True, help="Accept results without the images that cannot be read."),
            option(
                "--resize-ready",
                is_flag=True,
                help="Evaluate ready-made sets (C, Stylized, DAmageNet) of another size than the model's, resized; their "
                "columns and the average say so.",
            ),
        ],
    ),
]

_ENGINE: list[Callable[[Any], Any]] = section(
    MACHINES,
    [
        option(
            "--engine",
            default="local",
            show_default=True,
            metavar="local|ray|ray://ADDRESS|slurm",
            callback=engine_of,
            help="Where the work is done: here, as tasks of Ray on this machine or a cluster, or as jobs of SLURM; see "
            "docs/scale.md.",
        ),
        option(
            "--shard-images",
            type=click.IntRange(min=1),
            metavar="N",
            help="Of --engine ray and slurm: at most so many images of a condition in a task. Default: all.",
        ),
        option(
            "--task-cpus",
            type=click.FloatRange(min=0, min_open=True),
            help="Of --engine ray and slurm: cores for each task.",
        ),
        option(
            "--task-gpus",
            type=click.FloatRange(min=0),
            help="Of --engine ray and slurm: GPUs for each task; with Ray also a part of one, such as 0.5.",
        ),
        option(
            "--task-memory",
            type=click.FloatRange(min=0, min_open=True),
            metavar="GB",
            help="Of --engine ray and slurm: memory that each task claims. Default: none is claimed.",
        ),
        option(
            "--slurm",
            multiple=True,
            metavar="KEY=VALUE",
            callback=slurm_of,
            help="Of --engine slurm: what its jobs ask for, such as partition=gpu or time=4:00:00, in place of "
            "[tool.nsbench.slurm] in pyproject.toml; repeatable.",
        ),
    ],
)

STATED_BY_A_BASELINE = ("normalisation", "which", "seeds", "match", "corruption_engine")  # those with a default
DEFAULT_LABORATORY = Path("reports/nullspace")

_BENCH: list[Callable[[Any], Any]] = [
    *_MODEL,
    option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_LABORATORY,
        show_default=True,
        help="Folder of tables, figures and the page that gathers them.",
    ),
]


def bench_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command of the nullspace laboratory can be told: the arguments of `laboratory.open_bench`."""
    return with_options(_BENCH, _preparing(command))


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A model and the images that it belongs to."""
    return with_options(_MODEL, _preparing(command))


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Everything that `nsbench run` can be told apart from its methods and suites: the fields of RunOptions."""
    return with_options(_RUN, _preparing(command))


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where `nsbench run` does its work: further fields of RunOptions."""
    return with_options(_ENGINE, command)


def record_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those of `run` that a baseline can be recorded with: it reads and keeps no results."""
    return with_options([one for name, one in _named(_RUN) if name not in ("results", "force")], _preparing(command))


def check_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those of `run`, as `check --run` takes them: what moves a figure is the baseline's if it is not given."""
    checked = run_options(command)
    parameters: list[click.Option] = getattr(checked, "__click_params__")  # noqa: B009  of click
    for parameter in parameters:
        if parameter.name in STATED_BY_A_BASELINE:
            parameter.show_default = "the baseline's"
    return checked


def given_names() -> set[str]:
    """Options of `run` that were given, not left at their default."""
    known: list[click.Parameter] = getattr(run_options(lambda: None), "__click_params__")  # noqa: B009  of click
    context = click.get_current_context()
    return {
        name
        for parameter in known
        if (name := parameter.name) and context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)
    }


def _named(options: list[Callable[[Any], Any]]) -> list[tuple[str | None, Callable[[Any], Any]]]:
    """Each option with the name of its argument."""
    named = []
    for one in options:
        (parameter,) = getattr(one(lambda: None), "__click_params__")  # noqa: B009  of click
        named.append((parameter.name, one))
    return named


def _preparing(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with `asked`, a Preparation, in place of the options that it is made of."""

    @wraps(command)
    def prepared(*args: Any, **options: Any) -> Any:
        from nsbench.models.preparation import Preparation

        names = ("mean", "std", "size", "crop_pct", "interpolation")
        return command(*args, asked=Preparation(**{name: options.pop(name) for name in names}), **options)

    return prepared


def with_options(options: list[Callable[[Any], Any]], command: Callable[..., Any]) -> Callable[..., Any]:
    return reduce(lambda wrapped, decorator: decorator(wrapped), reversed(options), command)
