"""Fitted models: each is trained once and kept by the digest of everything that decides its weights."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from nsbench import models
from nsbench.data.source import digest_of
from nsbench.errors import ModelError, ResultError, TrainingError, doing
from nsbench.files import OTHER_CACHE, cache_folder, read_regular, write_atomically, writing
from nsbench.models.memory import out_of_memory
from nsbench.progress import Progress, Within
from nsbench.provenance import device_name, now, peak_memory_mib, versions
from nsbench.results import NoiseOfRound, RecipeUsed, Round, Stage
from nsbench.results.upgrades import recipe_of, round_of
from nsbench.training import Trained
from nsbench.types import Method

if TYPE_CHECKING:
    from nsbench.data import DataSource
    from nsbench.models import Model
    from nsbench.training import Recipe

# called after every finished round with method, model and round; returns accuracies that were watched, by suite
OnRound = Callable[[str, "Model", Round], Mapping[str, float]]


@dataclass(frozen=True)
class FitCard:
    """How a model came about: what is kept beside its weights."""

    method: str
    method_version: int
    model: str
    parent_digest: str
    weights_digest: str
    recipe: RecipeUsed | None  # None: nothing was trained
    data_digest: str = ""  # of the training images
    history: tuple[Round, ...] = ()
    seconds: float = 0.0
    forward_equivalents: int | None = None  # None: not counted, or nothing was trained
    lineage: tuple[Stage, ...] = ()  # of a chain
    device: str = ""
    peak_memory_mib: int | None = None
    date: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """A model that a method gave, and how it came about."""

    model: Model
    key: str  # digest of parent weights, normalisation, method, recipe and training data
    card: FitCard

    @property
    def weights_digest(self) -> str:
        return self.card.weights_digest


@dataclass(frozen=True)
class Start:
    """The model that a chain of methods starts from."""

    model: Model
    digest: str  # of its weights, or the key that stands for them

    def asked(self, method: Method) -> dict[str, Model]:
        """The keyword `start` for a method that takes it."""
        return {"start": self.model} if method.takes_start else {}


@dataclass(frozen=True)
class Fitter:
    """What every fit of one run shares."""

    recipe: Recipe
    source: DataSource
    progress: Progress
    workers: int = 0
    again: bool = False  # train anew what is kept
    folder: Path | None = None  # of the kept weights; None: in the user's cache
    on_round: OnRound | None = None

    def key(self, method: Method, parent: Model, parent_digest: str, start_digest: str = "") -> str:
        """Equal keys mean: the same weights, up to the arithmetic of the machine.

        `start_digest` is that of the model that a chain started from; "": of `parent`.
        """
        start_digest = start_digest or parent_digest
        for part in method.parts:  # each one's key stands for the weights that the next one starts from
            parent_digest = self.key(part, parent, parent_digest, start_digest)
        if method.parts:
            return parent_digest
        own = [method.code] if method.code else []  # who edits an included file need not raise its version
        own += [json.dumps(sorted(method.given.items()))] if method.given else []
        own += ["start", start_digest] if method.takes_start else []
        origin = (parent.name, parent_digest, parent.mean, parent.std, *own)
        if not method.trains:
            return digest_of(*origin, method.name, method.version)
        train = self.source.split("train", self.progress)
        needed = [method.needs(train, **method.given)] if method.needs else []
        decides = (method.name, method.version, self.recipe.digest(), self.recipe.seed, train.digest)
        return digest_of(*origin, *decides, *needed)

    def fit(self, method: Method, parent: Model, parent_digest: str, start: Start | None = None) -> Fitted:
        """The method's model: from `folder` where it is there under its key, otherwise trained and kept.

        A chain is fitted part by part, each kept by itself. Training that was interrupted goes on from its last round.
        `start` is what the chain started from; None: `parent`.
        """
        start = start or Start(parent, parent_digest)
        if method.parts:
            return self._chain(method, start)
        key = self.key(method, parent, parent_digest, start.digest)
        if not method.trains:
            asked = {**start.asked(method), **method.given}
            model = _trained(method.fit(parent, None, self.recipe, progress=self.progress, **asked)).model
            card = FitCard(method.name, method.version, parent.name, parent_digest, models.weights_digest(model), None)
            return Fitted(model, key, card)
        path = (self.folder or cache_folder() / "fitted") / f"{key}.safetensors"
        checkpoint = path.with_suffix(".training")
        if not self.again and (kept := _stored(path, parent, key)):
            self.progress.line(
                f"{method.name}: fitted before ({kept.card.seconds:.0f} s), weights {kept.weights_digest}"
            )
            _clear(checkpoint, path.with_suffix(".json"))
            return kept
        if self.again:
            checkpoint.unlink(missing_ok=True)
        fitted = self._train(method, parent, parent_digest, start, key, checkpoint)
        _store(path, fitted)
        checkpoint.unlink(missing_ok=True)
        return fitted

    def _chain(self, method: Method, start: Start) -> Fitted:
        """Each part from the model of the one before, whose key stands for its weights."""
        stages: list[Fitted] = []
        parent, digest = start.model, start.digest
        for part in method.parts:
            stages.append(self.fit(part, parent, digest, start))
            parent, digest = stages[-1].model, stages[-1].key
        cards = [stage.card for stage in stages]
        card = replace(
            cards[-1],
            history=tuple(replace(one, stage=card.method) for card in cards for one in card.history),
            seconds=round(sum(card.seconds for card in cards), 2),
            forward_equivalents=_sum(card.forward_equivalents for card in cards if card.recipe),
            lineage=tuple(Stage(card.method, card.weights_digest) for card in cards),
        )
        return replace(stages[-1], card=card)

    def _train(
        self, method: Method, parent: Model, parent_digest: str, start: Start, key: str, checkpoint: Path
    ) -> Fitted:
        device = str(next(parent.parameters()).device)
        train = self.source.split("train", self.progress)
        began = time.perf_counter()
        try:
            with doing(f"fitting {method.name}"):
                trained = _trained(
                    method.fit(
                        parent,
                        train,
                        self.recipe,
                        progress=Within(self.progress, lambda: method.name),
                        workers=self.workers,
                        checkpoint=checkpoint,
                        on_round=partial(self.on_round, method.name) if self.on_round else None,
                        **start.asked(method),
                        **method.given,
                    )
                )
        except KeyboardInterrupt as stopped:
            if checkpoint.exists():
                stopped.add_note(f"the finished rounds of {method.name} are kept")
            raise
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise TrainingError(
                f"{method.name}: {str(error).splitlines()[0]}; give a smaller batch with --set "
                "micro_batch=N (training) or --set noise_batch=N (noise)"
            ) from error
        # a training that was interrupted tells in its history what the rounds before took
        seconds = max(time.perf_counter() - began, sum(one.seconds for one in trained.history))
        self.progress.line(f"{method.name}: fitted in {seconds:.0f} s with recipe '{self.recipe.name}'")
        card = FitCard(
            method=method.name,
            method_version=method.version,
            model=parent.name,
            parent_digest=parent_digest,
            weights_digest=models.weights_digest(trained.model),
            recipe=recipe_used(self.recipe),
            data_digest=train.digest,
            history=trained.history,
            seconds=round(seconds, 2),
            forward_equivalents=sum(one.forward_equivalents for one in trained.history),
            device=device_name(device),
            peak_memory_mib=peak_memory_mib(device),
            date=now(),
            versions=versions(),
        )
        return Fitted(trained.model, key, card)


def _trained(returned: Trained | Model) -> Trained:
    """What a method returned: a model alone has no history."""
    return returned if isinstance(returned, Trained) else Trained(returned)


def _sum(counts: Iterable[int | None]) -> int | None:
    """None where one is not known."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count)


def recipe_used(recipe: Recipe) -> RecipeUsed:
    """A recipe as results keep it."""
    settings = recipe.model_dump(exclude={"name", "seed"} | recipe.unsaid)
    return RecipeUsed(recipe.name, recipe.seed, settings)


@cache
def _cards() -> TypeAdapter[FitCard]:
    return TypeAdapter(FitCard)


def _store(path: Path, fitted: Fitted) -> None:
    """The weights, the history as a table, and last the card, which says that all of it is there."""
    card = fitted.card
    with writing(path, ResultError, OTHER_CACHE, what="cannot keep the fitted weights"):
        models.save_weights(fitted.model, path, {"nsbench": json.dumps({"method": card.method, "key": fitted.key})})
        if card.history:
            write_atomically(
                path.with_suffix(".dynamics.csv"), history_table(card.history).to_csv(index=False).encode()
            )
        write_atomically(path.with_suffix(".json"), _sealed(card))


def _clear(checkpoint: Path, card: Path) -> None:
    """Remove what a process left that was killed after it had stored a model; a training in progress is newer."""
    with suppress(OSError):  # there is none, or nothing may be removed here
        if checkpoint.stat().st_mtime_ns <= card.stat().st_mtime_ns:
            checkpoint.unlink()


def _sealed(card: FitCard) -> bytes:
    """The card's file: with its digest, since cost and history are figures, too."""
    record = {
        "card": _cards().dump_python(card, mode="json"),
        "sha256": hashlib.sha256(_cards().dump_json(card)).hexdigest(),
    }
    return json.dumps(record, indent=1).encode() + b"\n"


def history_table(history: Iterable[Round]) -> pd.DataFrame:
    """One row a round, one column a figure: "loss_<term>", "noise_norm", "accuracy_<suite>", ..."""
    rows = []
    for one in history:
        row: dict[str, Any] = {"stage": one.stage} if one.stage else {}
        row |= {"round": one.round, "step": one.step, "lr": one.lr}
        row |= {f"loss_{name}": value for name, value in one.losses.items()}
        row |= _noise_columns(one.noise) if one.noise else {}
        row |= {f"accuracy_{name}": value for name, value in one.accuracies.items()} | dict(one.facts)
        row |= {"forward_equivalents": one.forward_equivalents, "noise_seconds": one.noise_seconds}
        rows.append(row | {"seconds": one.seconds, "micro_batch": one.micro_batch})
    return pd.DataFrame(rows)


def _noise_columns(noise: NoiseOfRound) -> dict[str, Any]:
    return {
        "noise_norm": noise.norm,
        "noise_steps": noise.steps,
        "noise_converged": noise.converged,
        "mse_probability": noise.mse_probability,
        "mse_probability_held_out": noise.mse_probability_held_out,
    }


def _stored(path: Path, parent: Model, key: str) -> Fitted | None:
    """Weights of an earlier run, or None where they are absent, half written or not what their card says."""
    try:
        card = _read_card(path.with_suffix(".json"))
        model = models.with_weights(parent, path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, ModelError):
        return None
    return Fitted(model, key, card) if models.weights_digest(model) == card.weights_digest else None


def _read_card(path: Path) -> FitCard:
    """A card of this version or of an earlier one.

    Raises ValueError, LookupError, TypeError, AttributeError or RecursionError for what is none, or was changed.
    """
    content = read_regular(path)
    record = json.loads(content)
    if "card" in record:
        card = _cards().validate_python(record["card"])
        if record["sha256"] != hashlib.sha256(_cards().dump_json(card)).hexdigest():
            raise ValueError(f"{path}: differs from its digest")
        return card
    try:
        return _cards().validate_json(content)
    except ValidationError:
        changed = {"recipe": recipe_of(record["recipe"]), "history": [round_of(entry) for entry in record["history"]]}
        return _cards().validate_python(record | changed)
