"""Options and names that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click import option

from nsbench import registry
from nsbench.cli.completion import complete_models, complete_recipes, complete_sources, complete_suites
from nsbench.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from nsbench.report import LendingFolder

DEFAULT_RESULTS = Path("reports/results")
SHOWCASE = Path(__file__).parents[2] / "reports" / "showcase"  # in a checkout; a wheel brings none
NO_FOLDER = "none"


def _triple(context: click.Context, parameter: click.Parameter, given: str | None) -> tuple[float, ...] | None:
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


_MODEL: list[Callable[[Any], Any]] = [
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
    option("--mean", metavar="R,G,B", callback=_triple, help="Mean inside the model, instead of the checkpoint's own."),
    option("--std", metavar="R,G,B", callback=_triple, help="Standard deviation, likewise."),
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


def settings_of(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """("rounds=5",) -> {"rounds": "5"}."""
    for setting in given:
        if "=" not in setting:
            raise UsageError(f"--set {setting}: write FIELD=VALUE, such as --set rounds=5")
        if setting.partition("=")[0].strip() == "seed":
            raise UsageError(f"--set {setting}: the recipe takes the run's seed; give it with --seed")
    return {field.strip(): value.strip() for field, _, value in (setting.partition("=") for setting in given)}


def attack_settings_of(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """("eot=16",) -> {"eot": "16"}."""
    for setting in given:
        if not all(part.strip() for part in setting.partition("=")):
            raise UsageError(f"--set-attack {setting}: write NAME=VALUE, such as --set-attack eot=16")
    return {name.strip(): value.strip() for name, _, value in (setting.partition("=") for setting in given)}


def _seeds(context: click.Context, parameter: click.Parameter, given: str) -> tuple[int, ...]:
    """ "0,1,2" -> (0, 1, 2)."""
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in given.split(",")))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise UsageError(f"--seed {given}: give whole numbers from 0 on, such as --seed 0,1,2")
    return seeds


def _suites(context: click.Context, parameter: click.Parameter, given: str) -> tuple[str, ...]:
    if not given:
        return ()
    registry.load_content()
    return resolve_suites(given)


def _included(context: click.Context, parameter: click.Parameter, value: tuple[Path, ...]) -> None:
    registry.included[:] = value


def _about(context: click.Context, parameter: click.Parameter, value: Path | None) -> object:
    from nsbench.results.about import read_about

    return read_about(value) if value else None


include = option(
    "--include",
    multiple=True,
    type=click.Path(path_type=Path),
    expose_value=False,
    is_eager=True,
    callback=_included,
    metavar="FILE.py|DIR",
    help="Suites, methods and attacks of your own; repeatable. Also NSBENCH_INCLUDE, and pyproject.toml.",
)


def _engine(context: click.Context, parameter: click.Parameter, given: str) -> str:
    if given not in ("local", "ray", "slurm") and not (given.startswith("ray://") and given != "ray://"):
        raise UsageError(f"--engine {given}: give local, slurm, ray, or ray://ADDRESS, such as ray://head:6379")
    return given


def _slurm(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """("partition=gpu",) -> {"partition": "gpu"}."""
    for setting in given:
        if not setting.partition("=")[0].strip() or "=" not in setting:
            raise UsageError(f"--slurm {setting}: write KEY=VALUE, such as --slurm partition=gpu")
    return {key.strip(): value.strip() for key, _, value in (setting.partition("=") for setting in given)}


_RUN: list[Callable[[Any], Any]] = [
    include,
    *_MODEL,
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
        help="Change a field of the recipe, such as rounds=5, or a method's own setting, such as sam.rho=0.1; repeatable.",
    ),
    option(
        "--seed",
        "seeds",
        default="0",
        show_default=True,
        metavar="N[,N...]",
        callback=_seeds,
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
        callback=_suites,
        help="What --watch evaluates instead, each on 200 images: suites, or a group as of --suite.",
    ),
    option("--log", type=click.Choice(["tensorboard", "wandb"]), help="Send each round there too."),
    option("--limit", type=click.IntRange(min=1), help="Images per condition: a stable, class-balanced subset."),
    option("--batch-size", type=click.IntRange(min=1), help="Images per batch of the evaluation. Moves no figure."),
    option("--workers", type=click.IntRange(min=0), help="Processes that decode images. Moves no figure."),
    option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    option("--results", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_RESULTS, show_default=True),
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
    option(
        "--name", default="", help="What to call the checkpoint in rows. Default: its file's name where rows need one."
    ),
    option(
        "--about",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        callback=_about,
        metavar="FILE.toml",
        help="Whose the rows are: title, authors, paper, code, weights, licence, date; shown and linked. Moves no figure.",
    ),
    option("--force", is_flag=True, help="Compute again what is stored, fitted weights included."),
    option("--allow-missing", is_flag=True, help="Accept results without the images that cannot be read."),
    option(
        "--resize-ready",
        is_flag=True,
        help="Evaluate ready-made sets (C, Stylized, DAmageNet) of another size than the model's, resized; their columns "
        "and the average say so.",
    ),
]

_ENGINE: list[Callable[[Any], Any]] = [
    option(
        "--engine",
        default="local",
        show_default=True,
        metavar="local|ray|ray://ADDRESS|slurm",
        callback=_engine,
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
        callback=_slurm,
        help="Of --engine slurm: what its jobs ask for, such as partition=gpu or time=4:00:00, in place of "
        "[tool.nsbench.slurm] in pyproject.toml; repeatable.",
    ),
]

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


_BOARD: list[Callable[[Any], Any]] = [
    option("--results", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_RESULTS, show_default=True),
    option("--reference", help="The row that differences are shown against. Default: the matched control."),
    option("--partial", is_flag=True, help="Also average over the suites that all rows have; marked as partial."),
    option(
        "--beside",
        metavar="DIR|none",
        help="Show rows of another results folder too, marked: those that were measured on the same images by the same "
        "recipe and seeds, and that --results lacks. Default: the showcase of a checkout, on the page and in the terminal.",
    ),
]


def board_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What the leaderboard is made of."""
    return _with(_BOARD, command)


_PAPER: list[Callable[[Any], Any]] = [
    option(
        "--columns",
        metavar="NAMES",
        default="",
        callback=lambda context, parameter, given: tuple(filter(None, map(str.strip, given.split(",")))),
        help="Of latex: suites and groups (clean, adversarial, ood, average), comma-separated. Default: all.",
    ),
    option("--interval/--no-interval", default=True, help="Of latex: with half the 95 % interval, or without."),
    option("--deviation/--no-deviation", default=True, help="Of latex: with σ over seeds, or without."),
]


def paper_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a table for a paper holds: the fields of PaperLayout."""
    return _with(_PAPER, command)


def lending_of(results: Path, wanted: str | None = None) -> LendingFolder | None:
    """The folder that lends rows to the board of `results`. Raises UsageError where `wanted` is no folder.

    Without a wish it is the showcase's board of the embedded source, and nothing for boards of the showcase itself.
    """
    from nsbench.report import LendingFolder

    if wanted == NO_FOLDER:
        return None
    if wanted is not None:
        if not Path(wanted).is_dir():
            raise UsageError(f"--beside {wanted}: is not a folder; give a folder of results, or '{NO_FOLDER}'")
        return LendingFolder(Path(wanted), wanted)
    folder = SHOWCASE / "shapes10" / "results"
    if not folder.is_dir() or results.resolve().is_relative_to(SHOWCASE):
        return None
    return LendingFolder(folder, "the showcase")


def bench_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command of the nullspace laboratory can be told: the arguments of `laboratory.open_bench`."""
    return _with(_BENCH, _preparing(command))


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A model and the images that it belongs to."""
    return _with(_MODEL, _preparing(command))


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Everything that `nsbench run` can be told apart from its methods and suites: the fields of RunOptions."""
    return _with(_RUN, _preparing(command))


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where `nsbench run` does its work: further fields of RunOptions."""
    return _with(_ENGINE, command)


def record_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those of `run` that a baseline can be recorded with: it reads and keeps no results."""
    return _with([one for name, one in _named(_RUN) if name not in ("results", "force")], _preparing(command))


def check_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those of `run`, as `check --run` takes them: what moves a figure is the baseline's if it is not given."""
    checked = run_options(command)
    parameters: list[click.Option] = getattr(checked, "__click_params__")  # noqa: B009  of click
    for parameter in parameters:
        if parameter.name in STATED_BY_A_BASELINE:
            parameter.show_default = "the baseline's"
    return checked


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


def _with(options: list[Callable[[Any], Any]], command: Callable[..., Any]) -> Callable[..., Any]:
    return reduce(lambda wrapped, decorator: decorator(wrapped), reversed(options), command)


def ordered_suites() -> list[Any]:
    return sorted(registry.suites.values(), key=lambda suite: (suite.order, suite.name))


def ordered_methods() -> list[Any]:
    return sorted(registry.methods.values(), key=lambda method: (method.order, method.name))


def resolve_methods(names: str) -> tuple[str, ...]:
    """Names, or `all`, as registered names without repetition."""
    return _resolve(names, {"all": [method.name for method in ordered_methods()]}, registry.methods)


def resolve_suites(names: str) -> tuple[str, ...]:
    """Names or groups as registered names without repetition."""
    everything = ordered_suites()
    groups = {
        "all": [suite.name for suite in everything if suite.paper],
        "extended": [suite.name for suite in everything],
    }
    for group in ("adversarial", "ood"):
        groups[group] = [suite.name for suite in everything if suite.group == group and suite.paper]
    return _resolve(names, groups, registry.suites)


def _resolve(names: str, groups: dict[str, list[str]], known: registry.Registry[Any]) -> tuple[str, ...]:
    chosen: dict[str, None] = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name not in groups and name not in known:
            raise UnknownName(known.kind, name, [*groups, *known])
        chosen |= dict.fromkeys(groups.get(name, [name]))
    if not chosen:
        raise UsageError(f"no {known.kind} was named; known: {', '.join([*groups, *known])}")
    return tuple(chosen)
