"""Fitted models: each is trained once and kept by the digest of everything that decides its weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from nsbench import models
from nsbench.data.source import digest_of
from nsbench.errors import ModelError, ResultError, TrainingError
from nsbench.files import cache_folder, write_atomically
from nsbench.progress import Progress
from nsbench.provenance import device_name, now, peak_memory_mib, versions
from nsbench.types import Method

if TYPE_CHECKING:
    from nsbench.data import DataSource
    from nsbench.models import Model
    from nsbench.training import Recipe


@dataclass(frozen=True)
class Fitted:
    """A model that a method gave, and how it came about."""

    model: Model
    key: str  # digest of parent weights, normalisation, method, recipe and training data
    weights_digest: str
    card: dict[str, Any]  # history, seconds, forward_equivalents, lineage, device, ...


def fit_key(
    method: Method, parent: Model, parent_digest: str, recipe: Recipe, source: DataSource, progress: Progress
) -> str:
    """Equal keys mean: the same weights, up to the arithmetic of the machine."""
    for part in method.parts:  # each one's key stands for the weights that the next one starts from
        parent_digest = fit_key(part, parent, parent_digest, recipe, source, progress)
    if method.parts:
        return parent_digest
    origin = (parent.name, parent_digest, parent.mean, parent.std)
    if not method.trains:
        return digest_of(*origin, method.name, method.version)
    train = source.split("train", progress)
    return digest_of(*origin, method.name, method.version, recipe.digest(), recipe.seed, train.digest)


def fit(
    method: Method,
    parent: Model,
    parent_digest: str,
    recipe: Recipe,
    source: DataSource,
    progress: Progress,
    *,
    key: str,
    workers: int = 0,
    again: bool = False,
    folder: Path | None = None,
    on_round: Callable[[str, Model, dict[str, Any]], None] | None = None,
) -> Fitted:
    """The method's model: from `folder` (the cache) where it is there under `key`, otherwise trained and kept.

    A chain is fitted part by part, each kept by itself. `on_round(method, model, entry)` hears of every finished
    round. Training that was interrupted goes on from its last round.
    """
    if method.parts:
        return _fit_chain(
            method,
            parent,
            parent_digest,
            recipe,
            source,
            progress,
            workers=workers,
            again=again,
            folder=folder,
            on_round=on_round,
        )
    if not method.trains:
        model = method.fit(parent, None, recipe, progress=progress)
        return Fitted(model, key, models.weights_digest(model), {"history": [], "seconds": 0.0})
    path = (folder or cache_folder() / "fitted") / f"{key}.safetensors"
    if not again and (stored := _stored(path, parent, key)):
        progress.line(f"{method.name}: fitted before ({stored.card['seconds']:.0f} s), weights {stored.weights_digest}")
        return stored
    checkpoint = path.with_suffix(".training")
    if again:
        checkpoint.unlink(missing_ok=True)
    heard = partial(on_round, method.name) if on_round else None
    fitted = _train(
        method, parent, recipe, source, progress, key, workers=workers, checkpoint=checkpoint, on_round=heard
    )
    _store(path, fitted, method, recipe, parent.name, parent_digest)
    checkpoint.unlink(missing_ok=True)
    return fitted


def _fit_chain(
    method: Method, parent: Model, digest: str, recipe: Recipe, source: DataSource, progress: Progress, **how: Any
) -> Fitted:
    """Each part from the model of the one before, whose key stands for its weights."""
    stages: list[tuple[str, Fitted]] = []
    for part in method.parts:
        key = fit_key(part, parent, digest, recipe, source, progress)
        stage = fit(part, parent, digest, recipe, source, progress, key=key, **how)
        stages.append((part.name, stage))
        parent, digest = stage.model, key
    return _chained(stages)


def _chained(stages: list[tuple[str, Fitted]]) -> Fitted:
    """The last stage's model with the cards of all."""
    last = stages[-1][1]
    cards = [stage.card for _, stage in stages]
    card = cards[-1] | {
        "history": [entry | {"stage": name} for name, stage in stages for entry in stage.card["history"]],
        "seconds": round(sum(card["seconds"] for card in cards), 2),
        "forward_equivalents": _sum(card.get("forward_equivalents", 0) for card in cards),
        "lineage": [{"method": name, "weights_digest": stage.weights_digest} for name, stage in stages],
    }
    return Fitted(last.model, last.key, last.weights_digest, card)


def _sum(counts: Iterable[int | None]) -> int | None:
    """None where one is not known."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count)


def _train(
    method: Method, parent: Model, recipe: Recipe, source: DataSource, progress: Progress, key: str, **run: Any
) -> Fitted:
    device = str(next(parent.parameters()).device)
    train = source.split("train", progress)
    start = time.perf_counter()
    try:
        model = method.fit(parent, train, recipe, progress=progress, **run)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{method.name}: {str(error).splitlines()[0]}; give a smaller batch with --set "
            "micro_batch=N (training) or --set noise_batch=N (noise)"
        ) from error
    history = getattr(model, "history", [])
    # a training that was interrupted tells in its history what the rounds before took
    seconds = max(time.perf_counter() - start, sum(entry.get("seconds", 0.0) for entry in history))
    card = {
        "history": history,
        "seconds": round(seconds, 2),
        "device": device_name(device),
        "forward_equivalents": _sum(entry.get("forward_equivalents") for entry in history),
        "peak_memory_mib": peak_memory_mib(device),
        "date": now(),
        "versions": versions(),
        "data_digest": train.digest,
    }
    progress.line(f"{method.name}: fitted in {seconds:.0f} s with recipe '{recipe.name}'")
    return Fitted(model, key, models.weights_digest(model), card)


def _store(
    path: Path,
    fitted: Fitted,
    method: Method,
    recipe: Recipe,
    model: str,
    parent_digest: str,
) -> None:
    card = fitted.card | {
        "method": method.name,
        "method_version": method.version,
        "recipe": recipe.model_dump(),
        "model": model,
        "parent_digest": parent_digest,
        "weights_digest": fitted.weights_digest,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        models.save_weights(fitted.model, path, {"nsbench": json.dumps({"method": method.name, "key": fitted.key})})
        if fitted.card["history"]:
            table = pd.DataFrame(fitted.card["history"]).to_csv(index=False)
            write_atomically(path.with_suffix(".dynamics.csv"), table.encode())
        write_atomically(path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
    except OSError as error:
        raise ResultError(
            f"{path}: cannot keep the fitted weights ({error.strerror or error}); "
            "free some space or point NSBENCH_CACHE to another folder"
        ) from error


def _stored(path: Path, parent: Model, key: str) -> Fitted | None:
    """Weights of an earlier run, or None where they are absent, half written or not what their card says."""
    try:
        card = json.loads(path.with_suffix(".json").read_text())
        model = models.with_weights(parent, path)
    except (OSError, ValueError, ModelError):
        return None
    digest = models.weights_digest(model)
    if digest != card.get("weights_digest"):
        return None
    model.history = card["history"]
    return Fitted(model, key, digest, card)
