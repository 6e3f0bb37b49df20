"""Fitted models: each is trained once and kept by the digest of everything that decides its weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nsbench import models, processes
from nsbench.data.source import digest_of
from nsbench.errors import TrainingError, doing
from nsbench.models.memory import out_of_memory
from nsbench.progress import Progress, Within
from nsbench.provenance import device_name, now, peak_memory_mib, versions
from nsbench.results import RecipeUsed, Round, Stage
from nsbench.run.kept_fits import FitCard, Fitted, clear_checkpoint, kept_at, store, stored_for_all
from nsbench.run.lent import lent
from nsbench.run.turns import clear_turn, turn
from nsbench.training import Trained
from nsbench.training.calls import remove_checkpoints
from nsbench.types import Method

if TYPE_CHECKING:
    from nsbench.data import DataSource
    from nsbench.models import Model
    from nsbench.training import Recipe

# called after every finished round with method, model and round; returns accuracies that were watched, by suite
OnRound = Callable[[str, "Model", Round], Mapping[str, float]]


@dataclass(frozen=True)
class Start:
    """The model that a chain of methods starts from."""

    model: Model
    digest: str  # of its weights, or the key that stands for them


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
    waits: bool = True  # for another process that trains the same; False: raises Elsewhere

    def key(self, method: Method, parent: Model, parent_digest: str, start_digest: str = "") -> str:
        """Equal keys mean: the same weights, up to the arithmetic of the machine.

        `start_digest` is that of the model that a chain started from; "": of `parent`. Raises an nsbench error where the
        method cannot train this model, or lacks what it needs.
        """
        start_digest = start_digest or parent_digest
        for part in method.parts:  # each one's key stands for the weights that the next one starts from
            parent_digest = self.key(part, parent, parent_digest, start_digest)
        if method.parts:
            return parent_digest
        own = [method.code] if method.code else []  # who edits an included file need not raise its version
        own += [json.dumps(sorted(method.given.items()))] if method.given else []
        own += ["start", start_digest] if method.takes_start else []
        # Trainings read size and interpolation (crops), discretisers all of it (their quality). What a checkpoint itself
        # declares stays out, as it always did: weights that are kept under such a key are found. Their card tells whether
        # the declaration has been edited since.
        prepared = [] if parent.own_preparation else [repr(parent.preprocessing)]
        built = []
        if parent.architecture and parent.origin and parent.origin.place in ("local-dir", "hf-hub"):
            built = [parent.architecture.name]  # a config.json says it, and `parent.name` does not
        origin = (parent.name, parent_digest, parent.mean, parent.std, *built, *own)
        if not method.trains:
            return digest_of(*origin, method.name, method.version)
        method.require(parent, self.recipe)
        train = self.source.split("train", self.progress)
        needed = [method.needs(train, **method.given)] if method.needs else []
        decides = (method.name, method.version, self.recipe.digest(), self.recipe.seed, train.digest)
        return digest_of(*origin, *decides, *needed, *prepared)

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
            with self._lent(method, parent, start) as (own, asked):
                returned = method.fit(own, None, self.recipe, progress=self.progress, **asked, **method.given)
            model = _trained(returned, method.name).model
            digest = models.weights_digest(model)
            if model is own and digest == models.weights_digest(parent):  # as it was: then it is no other model
                model = parent
            card = FitCard(method.name, method.version, parent.name, parent_digest, digest, None)
            return Fitted(model, key, card)
        path = kept_at(self.folder, key)
        mine = path.with_suffix(".turn")
        if kept := self._kept(method, path, parent, key):
            clear_turn(mine)
            return kept
        with turn(mine, f"the training of {method.name}", self.progress if self.waits else None):
            kept = self._kept(method, path, parent, key)  # by another process, meanwhile
            return kept or self._trained_here(method, parent, parent_digest, start, key, path)

    def _kept(self, method: Method, path: Path, parent: Model, key: str) -> Fitted | None:
        kept = None if self.again else stored_for_all(path, parent, key)
        if kept:
            self.progress.line(
                f"{method.name}: fitted before ({kept.card.seconds:.0f} s), weights {kept.weights_digest}"
            )
            processes.first(partial(clear_checkpoint, path.with_suffix(".training"), path.with_suffix(".json")))
        return kept

    def _trained_here(
        self, method: Method, parent: Model, parent_digest: str, start: Start, key: str, path: Path
    ) -> Fitted:
        checkpoint = path.with_suffix(".training")
        if self.again:
            processes.first(partial(remove_checkpoints, checkpoint))
        fitted = self._train(method, parent, parent_digest, start, key, checkpoint)
        processes.agree(fitted.weights_digest, f"the weights of {method.name} differ")
        processes.first(partial(store, path, fitted))
        processes.first(partial(remove_checkpoints, checkpoint))
        return fitted

    @contextmanager
    def _lent(self, method: Method, parent: Model, start: Start) -> Iterator[tuple[Model, dict[str, Model]]]:
        """The model that the method may do with what it wants, and the keyword `start` where it asks for it."""
        begun = start.model if method.takes_start else parent
        with lent(method.name, parent, begun, self.recipe.seed) as (own, begun):
            yield own, {"start": begun} if method.takes_start else {}

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
        device = str(parent.device)
        train = self.source.split("train", self.progress)
        began = time.perf_counter()
        try:
            with doing(f"fitting {method.name}"), self._lent(method, parent, start) as (own, asked):
                returned = method.fit(
                    own,
                    train,
                    self.recipe,
                    progress=Within(self.progress, lambda: method.name),
                    workers=self.workers,
                    checkpoint=checkpoint,
                    on_round=partial(self.on_round, method.name) if self.on_round else None,
                    **asked,
                    **method.given,
                )
            trained = _trained(returned, method.name)
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
            preprocessing=parent.preprocessing.describe(),
            history=trained.history,
            seconds=round(seconds, 2),
            forward_equivalents=sum(one.forward_equivalents for one in trained.history),
            device=device_name(device),
            peak_memory_mib=peak_memory_mib(device),
            date=now(),
            versions=versions(),
        )
        return Fitted(trained.model, key, card)


def _trained(returned: Trained | Model, method: str) -> Trained:
    """What a method returned: a model alone has no history. Raises TrainingError where it is neither."""
    trained = returned if isinstance(returned, Trained) else Trained(returned)
    if not isinstance(trained.model, models.Model):
        raise TrainingError(
            f"{method} returned {type(trained.model).__name__}, not a model: return what the training gives, or the model"
        )
    return trained


def _sum(counts: Iterable[int | None]) -> int | None:
    """None where one is not known."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count)


def recipe_used(recipe: Recipe) -> RecipeUsed:
    """A recipe as results keep it."""
    settings = recipe.model_dump(exclude={"name", "seed"} | recipe.unsaid)
    return RecipeUsed(recipe.name, recipe.seed, settings)
