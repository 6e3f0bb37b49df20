"""A fitted model as a folder that timm and nsbench load: `nsbench export weights`."""

from __future__ import annotations

import json
from pathlib import Path

import nsbench
from nsbench import registry
from nsbench.models.export import require_exportable, write_folder
from nsbench.progress import Progress
from nsbench.run.fit import Fitter
from nsbench.run.job import Job, open_job
from nsbench.run.kept_fits import Fitted
from nsbench.run.options import RunOptions
from nsbench.types import Method, Origin


def export_weights(options: RunOptions, out: Path, progress: Progress) -> tuple[Path, ...]:
    """Fit the one method of `options`, or take what was fitted before, and write it to `out`.

    Raises ModelError where timm cannot build the model, before anything is trained.
    """
    job = open_job(options, progress)
    require_exportable(job.parent, out)
    method = job.method(options.methods[0])
    fitter = Fitter(job.recipe, job.source, progress, workers=job.workers, folder=options.weights)
    fitted = fitter.fit(method, job.parent, job.parent_digest)
    own_head = job.parent.class_map is None
    names = [str(name) for name in job.source.class_names] if own_head else []
    return write_folder(fitted.model, out, card_of(job, method, fitted, out.absolute().name), names)


def card_of(job: Job, method: Method, fitted: Fitted, folder: str) -> str:
    """README.md of the folder, with the head that Hugging Face reads."""
    model, card = fitted.model, fitted.card
    recipe = f"'{card.recipe.name}', seed {card.recipe.seed}" if card.recipe else "none: nothing was trained"
    lines = [
        "---",
        "library_name: timm",
        "pipeline_tag: image-classification",
        "tags: [image-classification, timm, nsbench]",
        "---",
        f"# {method.title} of {model.name}",
        "",
        f"{method.summary} ({method.citation})",
        "",
        "| what | value |",
        "|---|---|",
        f"| method | `{method.name}`, version {method.version} |",
        f"| started from | `{model.name}`{_origin(job.parent.origin)}, weights {job.parent_digest} |",
        f"| recipe | {recipe} |",
        f"| images | {job.source.title} |",
        f"| input | {model.preprocessing.describe()}; mean {_numbers(model.mean)}, std {_numbers(model.std)} |",
        f"| weights | {fitted.weights_digest} |",
        f"| made by | nsbench {nsbench.__version__} |",
    ]
    if model.class_map:
        words = model.class_map.assignment.words()
        lines.append(f"| head | its own outputs; it was trained and evaluated through {words} |")
    lines += [
        "",
        "```python",
        "import timm",
        "",
        f"model = timm.create_model({json.dumps(f'local-dir:{folder}')}, True)  # with weights; timm 1.0.16 or newer",
        "```",
        "",
        "```console",
        f"$ nsbench run --method {_as_it_is()} --suite all --data DATA --model local-dir:{folder}",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _as_it_is() -> str:
    """The method that evaluates a checkpoint without training it."""
    return next((one.name for one in registry.methods.values() if one.role == "untouched"), "METHOD")


def _origin(origin: Origin | None) -> str:
    """ ", from timm/vit_tiny... at 0123456789ab" """
    if origin is None:
        return ""
    at = f" at {origin.revision[:12]}" if origin.revision else ""
    return f" ({origin.place} {origin.name or origin.file}{at})".replace(" )", ")")


def _numbers(triple: tuple[float, float, float]) -> str:
    return " ".join(f"{one:g}" for one in triple)
