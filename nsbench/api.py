"""nsbench from Python: what the command line does, with models and results as objects.

    import nsbench as nb
    results = nb.evaluate(my_module, data="shapes10", suites="clean,fgsm,cw", name="mine")   # any nn.Module on [0, 1]
    nb.leaderboard(results + nb.read_results("reports/results")).to_frame()                  # pandas

Results are the same records, in the same folder, as those of `nsbench run`: what is held there is not computed again, and
both sides read what the other one wrote. Whatever is wrong is raised as one of `nsbench.errors`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from nsbench.errors import NsbenchError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from nsbench.data import DataSource
    from nsbench.models import Model, Preprocessing
    from nsbench.models.preparation import Preparation
    from nsbench.progress import Progress
    from nsbench.report.standings import Standings
    from nsbench.results import Result
    from nsbench.run.kept_fits import FitCard
    from nsbench.run.options import RunOptions

OF_EVALUATION = (
    "attack_settings",
    "limit",
    "batch_size",
    "workers",
    "device",
    "allow_missing",
    "resize_ready",
    "force",
)
DEFAULT_RESULTS, DEFAULT_PAGE = Path("reports/results"), Path("reports/index.html")


class Options(TypedDict, total=False):
    """What `run`, `fit` and `evaluate` take beside their own arguments: options of `nsbench run`, under their names."""

    checkpoint: str | Path | None
    normalisation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float
    img_size: int
    interpolation: str
    class_map: str
    class_map_by: str
    recipe: str
    settings: dict[str, str]  # fields of the recipe, as --set
    attack_settings: dict[str, object]  # of the suites' attacks, as --set-attack
    match: str
    limit: int | None
    batch_size: int
    workers: int
    device: str
    corruption_engine: str
    surrogate: str
    force: bool
    allow_missing: bool
    resize_ready: bool
    follow_links: bool
    weights: Path  # folder of fitted weights; by default in the user's cache


@dataclass(frozen=True)
class FittedMethod:
    """A method's model, which `evaluate` takes."""

    model: Model  # an nn.Module from images (B, 3, H, W) in [0, 1] to logits (B, K)
    method: str
    card: FitCard  # how it came about
    options: RunOptions
    parent: Model | None  # that it was fitted from, where that was no name


def open_source(
    spec: str = "shapes10",
    *,
    surrogate: str | None = None,
    corruption_engine: str = "nsbench",
    follow_links: bool = False,
) -> DataSource:
    """A data source, as `--data` names it: `source.split("clean")` gives images, labels and ids. Raises DataError."""
    from nsbench.run.opening import open_source

    return open_source(spec, corruption_engine, surrogate, follow_links)


def read_results(folder: str | Path = DEFAULT_RESULTS) -> list[Result]:
    """All results below a folder. A file that cannot be read is a warning, and the rest is given."""
    from nsbench.results import read_results

    if not Path(folder).is_dir():
        raise UsageError(f"{folder}: is not a folder of results; give the folder that --results named")
    results, problems = read_results(Path(folder))
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    return results


def run(
    methods: str | Sequence[str],
    suites: str | Sequence[str] = "all",
    *,
    data: str = "shapes10",
    model: str | nn.Module | None = None,
    preprocessing: Preprocessing | None = None,
    name: str = "",
    seeds: Sequence[int] = (0,),
    results: str | Path = DEFAULT_RESULTS,
    progress: bool | Progress = False,
    **options: Unpack[Options],
) -> list[Result]:
    """Fit each method, evaluate it on each suite, and store what is not stored yet; the results of all of them.

    `methods`, `suites`: names, comma-separated or a sequence, or "all". `model`: as `--model`, or an nn.Module; its
    `preprocessing` says its input's size, where the module has no attribute `input_size`. `progress`: True prints lines.

    Raises an NsbenchError where anything could not be done, after everything else was done and stored.
    """
    asked, parent = _asked(methods, suites, data, model, preprocessing, name, seeds, results, "run", options)
    return _run(asked, parent, progress)


def fit(
    method: str,
    *,
    data: str = "shapes10",
    model: str | nn.Module | None = None,
    preprocessing: Preprocessing | None = None,
    name: str = "",
    seed: int = 0,
    progress: bool | Progress = False,
    **options: Unpack[Options],
) -> FittedMethod:
    """Finetune a model with a method; the weights are kept, and are read where this was done before.

    The nn.Module is `.model`; `evaluate` takes what is returned. Raises an NsbenchError.
    """
    from nsbench.run.trainings import fit

    asked, parent = _asked(method, (), data, model, preprocessing, name, (seed,), DEFAULT_RESULTS, "fit", options)
    if len(asked.methods) != 1:
        raise UsageError(f"method: {method!r} are {len(asked.methods)} methods; fit one at a time, or a chain of them")
    fitted = fit(asked, _progress(progress), parent)
    return FittedMethod(fitted.model, method, fitted.card, asked, parent)


def evaluate(
    model: str | nn.Module | FittedMethod | None = None,
    *,
    suites: str | Sequence[str] = "all",
    data: str = "shapes10",
    preprocessing: Preprocessing | None = None,
    name: str = "",
    seed: int = 0,
    results: str | Path = DEFAULT_RESULTS,
    progress: bool | Progress = False,
    **options: Unpack[Options],
) -> list[Result]:
    """Evaluate a model as it is: an nn.Module on images in [0, 1], a name as of `--model`, or what `fit` returned.

    What `fit` returned is evaluated with the data and options that it was fitted with. For the rest see `run`.
    """
    if not isinstance(model, FittedMethod):
        asked, parent = _asked(
            _untouched(), suites, data, model, preprocessing, name, (seed,), results, "evaluate", options
        )
        return _run(asked, parent, progress)
    if others := sorted(set(options) - set(OF_EVALUATION)):
        raise UsageError(f"{others[0]}: a fitted method is evaluated as it was fitted; give it to fit")
    if data != "shapes10" or preprocessing is not None or seed not in (0, *model.options.seeds):
        raise UsageError("data, preprocessing, seed: a fitted method is evaluated as it was fitted; give them to fit")
    from nsbench.run.from_python import checked

    given = checked(options)
    chosen = _suites(suites, given.pop("attack_settings", {}))
    changed: dict[str, Any] = {"suites": chosen, "results": Path(results), **given}
    asked = replace(model.options, name=name or model.options.name, **changed)
    return _run(asked, model.parent, progress)


def leaderboard(results: Iterable[Result], *, reference: str | None = None, partial: bool = False) -> Standings:
    """The tables of these results with intervals, ranks and paired tests: see `Standings.to_frame`, or print it.

    `reference`: the row that differences are against. `partial`: also average over what all rows have.
    """
    from nsbench.leaderboard import build
    from nsbench.report.standings import Standings

    if isinstance(results, str | Path):
        raise UsageError(f"results: {str(results)!r} is a folder; give what read_results gives of it")
    return Standings(build(results, reference=reference, partial=partial))


def report(results: str | Path = DEFAULT_RESULTS, out: str | Path = DEFAULT_PAGE, **options: Any) -> Path:
    """Write the page of a results folder and return it; `options` are those of `nsbench.report.render`."""
    from nsbench.report import render

    return render(Path(results), Path(out), **options)


# --- what a call becomes --------------------------------------------------------------------------------------------


def _asked(
    methods: str | Sequence[str],
    suites: str | Sequence[str],
    data: str,
    model: str | nn.Module | None,
    preprocessing: Preprocessing | None,
    name: str,
    seeds: Sequence[int],
    results: str | Path,
    called: str,
    options: Options,
) -> tuple[RunOptions, Model | None]:
    """The options of a run, and the model where it is no name. Raises UsageError for an option that there is not."""
    from nsbench import registry
    from nsbench.models.preparation import Preparation
    from nsbench.run.from_python import checked, seeds_of, text
    from nsbench.run.named_suites import register_sets
    from nsbench.run.options import RunOptions

    if unknown := sorted(set(options) - set(Options.__annotations__)):
        raise UsageError(f"{unknown[0]}: is no option; known: {', '.join(Options.__annotations__)}")
    given, data = checked(options), text("data", data)
    model = str(model) if isinstance(model, Path) else model
    _require_model(model)
    if preprocessing is not None and (model is None or isinstance(model, str)):
        raise UsageError(
            "preprocessing: is for an nn.Module; of a model by name say img_size, crop_pct or interpolation"
        )
    asked = Preparation(
        given.pop("mean", None), given.pop("std", None), given.pop("img_size", None), given.pop("crop_pct", None),
        given.pop("interpolation", None),
    )  # fmt: skip
    if given.get("checkpoint"):
        given["checkpoint"] = Path(given["checkpoint"])
    _load_content()
    register_sets(data)
    parent = (
        None if isinstance(model, str) or model is None else _wrapped(model, preprocessing, name, asked, data, given)
    )
    chosen = _suites(suites, given.pop("attack_settings", {}), fits=called == "fit")
    words = f"nsbench.{called}({parent.name if parent else model or ''})"
    made = RunOptions(
        registry.resolve_methods(_comma(methods)), chosen, data,
        model=model if isinstance(model, str) else None, asked=None if parent else asked,
        name="" if parent and parent.name == name else name, seeds=seeds_of(seeds),
        results=Path(results), command=words, **given,
    )  # fmt: skip
    return made, parent


def _require_model(model: object) -> None:
    if model is None or isinstance(model, str):
        return
    from torch import nn

    if not isinstance(model, nn.Module):
        raise UsageError(f"model: {model!r} is neither a name nor an nn.Module")


def _wrapped(
    module: nn.Module,
    preprocessing: Preprocessing | None,
    name: str,
    asked: Preparation,
    data: str,
    given: Mapping[str, object],
) -> Model:
    from nsbench.models import Model
    from nsbench.models.own_code import wrap_in_memory
    from nsbench.models.request import Request

    if isinstance(module, Model):
        if preprocessing is not None or asked.said():
            what = "preprocessing" if preprocessing is not None else next(iter(asked.said()))
            raise UsageError(f"{what}: this model has its preparation with it; say it where the model is loaded")
        return module
    if refused := [what for what in ("checkpoint", "normalisation") if given.get(what)]:
        raise UsageError(f"{refused[0]}: an nn.Module has its weights and normalises inside; do both in it")
    called = name or type(module).__name__
    request = Request(called, called, asked=asked, crop_pct=open_source(data).crop_pct)
    return wrap_in_memory(module, preprocessing, request)


def _run(asked: RunOptions, parent: Model | None, progress: bool | Progress) -> list[Result]:
    from nsbench.run.runner import run

    summary = run(asked, _progress(progress), parent)
    undone = {**summary.missing, **summary.failed}
    if undone:
        pair, why = next(iter(undone.items()))
        kept = f"; {len(summary.results)} others are stored in {asked.results}" if summary.results else ""
        raise NsbenchError(f"{len(undone)} could not be done, such as {pair}: {why}{kept}")
    return summary.results


def _untouched() -> str:
    """The method that returns the checkpoint as it is."""
    from nsbench import registry

    _load_content()
    (name,) = [method.name for method in registry.methods.values() if method.role == "untouched"]
    return name


def _suites(suites: str | Sequence[str], attack_settings: Mapping[str, object], fits: bool = False) -> tuple[str, ...]:
    """`fits`: nothing is evaluated, and none is asked for."""
    from nsbench import registry
    from nsbench.run.attack_settings import with_attack_settings

    _load_content()
    if not suites and not fits:
        raise UsageError("suites: name at least one, or 'all'")
    chosen = () if fits else registry.resolve_suites(_comma(suites))
    return with_attack_settings(chosen, {name: str(value) for name, value in attack_settings.items()})


def _load_content() -> None:
    from nsbench import registry

    registry.load_content()


def _comma(names: str | Sequence[str]) -> str:
    if not isinstance(names, str) and not (isinstance(names, Sequence) and all(isinstance(one, str) for one in names)):
        raise UsageError(f"{names!r} are no names: give them in a text, with commas, or in a list")
    return names if isinstance(names, str) else ",".join(names)


def _progress(wanted: bool | Progress) -> Progress:
    from nsbench.progress import SILENT, ConsoleProgress

    return wanted if not isinstance(wanted, bool) else ConsoleProgress() if wanted else SILENT
