"""Fitted models: each is trained once and kept by the digest of everything that decides its weights."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbench import models
from nsbench.data.source import digest_of
from nsbench.errors import ModelError, ResultError
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
    card: dict[str, Any]  # history, seconds, device, ...


def fit_key(method: Method, parent: Model, parent_digest: str, recipe: Recipe, source: DataSource,
            progress: Progress) -> str:
    """Equal keys mean: the same weights, up to the arithmetic of the machine."""
    origin = (parent.name, parent_digest, parent.mean, parent.std)
    if not method.trains:
        return digest_of(*origin, method.name, method.version)
    train = source.split("train", progress)
    return digest_of(*origin, method.name, method.version, recipe.digest(), recipe.seed, train.digest)


def fit(method: Method, parent: Model, parent_digest: str, recipe: Recipe, source: DataSource, progress: Progress,
        *, key: str, workers: int = 0, again: bool = False, folder: Path | None = None) -> Fitted:
    """The method's model: from `folder` (the cache) where it is there under `key`, otherwise trained and kept."""
    if not method.trains:
        model = method.fit(parent, None, recipe, progress=progress)
        return Fitted(model, key, models.weights_digest(model), {"history": [], "seconds": 0.0})
    path = (folder or cache_folder() / "fitted") / f"{key}.safetensors"
    if not again and (stored := _stored(path, parent, key)):
        progress.line(f"{method.name}: fitted before ({stored.card['seconds']:.0f} s), weights {stored.weights_digest}")
        return stored
    fitted = _train(method, parent, recipe, source, progress, key, workers)
    _store(path, fitted, method, recipe, parent.name, parent_digest)
    return fitted


def _train(method: Method, parent: Model, recipe: Recipe, source: DataSource, progress: Progress, key: str,
           workers: int) -> Fitted:
    device = str(next(parent.parameters()).device)
    start = time.perf_counter()
    model = method.fit(parent, source.split("train", progress), recipe, progress=progress, workers=workers)
    seconds = time.perf_counter() - start
    card = {"history": getattr(model, "history", []), "seconds": round(seconds, 2), "device": device_name(device),
            "peak_memory_mib": peak_memory_mib(device), "date": now(), "versions": versions()}
    progress.line(f"{method.name}: fitted in {seconds:.0f} s with recipe '{recipe.name}'")
    return Fitted(model, key, models.weights_digest(model), card)


def _store(path: Path, fitted: Fitted, method: Method, recipe: Recipe, model: str, parent_digest: str,
           ) -> None:
    card = fitted.card | {
        "method": method.name, "method_version": method.version, "recipe": recipe.model_dump(),
        "model": model, "parent_digest": parent_digest, "weights_digest": fitted.weights_digest,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        models.save_weights(fitted.model, path, {"nsbench": json.dumps({"method": method.name, "key": fitted.key})})
        write_atomically(path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
    except OSError as error:
        raise ResultError(f"{path}: cannot keep the fitted weights ({error.strerror or error}); "
                          "free some space or point NSBENCH_CACHE to another folder") from error


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
