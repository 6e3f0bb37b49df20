"""What is kept of a fitted model: its weights, a card that says how they came about, and the history as a table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from nsbench import models, processes
from nsbench.errors import ModelError, ResultError
from nsbench.files import OTHER_CACHE, cache_folder, read_regular, write_atomically, writing
from nsbench.results import NoiseOfRound, RecipeUsed, Round, Stage
from nsbench.results.upgrades import recipe_of, round_of
from nsbench.training.calls import remove_checkpoints

if TYPE_CHECKING:
    from nsbench.models import Model


def kept_in(folder: Path | None) -> Path:
    """The folder of kept weights; None: the one in the user's cache."""
    return folder or cache_folder() / "fitted"


def kept_at(folder: Path | None, key: str) -> Path:
    """The weights of this key there."""
    return kept_in(folder) / f"{key}.safetensors"


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
    preprocessing: str = ""  # of the model that was trained; "": nothing was, or the card is older than this field


@dataclass(frozen=True)
class Fitted:
    """A model that a method gave, and how it came about."""

    model: Model
    key: str  # digest of parent weights, normalisation, method, recipe and training data
    card: FitCard

    @property
    def weights_digest(self) -> str:
        return self.card.weights_digest


@cache
def _cards() -> TypeAdapter[FitCard]:
    return TypeAdapter(FitCard)


def store(path: Path, fitted: Fitted) -> None:
    """The weights, the history as a table, and last the card, which says that all of it is there."""
    card = fitted.card
    with writing(path, ResultError, OTHER_CACHE, what="cannot keep the fitted weights"):
        models.save_weights(fitted.model, path, {"nsbench": json.dumps({"method": card.method, "key": fitted.key})})
        if card.history:
            write_atomically(
                path.with_suffix(".dynamics.csv"), history_table(card.history).to_csv(index=False).encode()
            )
        write_atomically(path.with_suffix(".json"), _sealed(card))


PARTS = (".safetensors", ".dynamics.csv", ".json")  # of what is kept; the card comes last


def files_of(path: Path) -> dict[str, bytes]:
    """What `store` wrote, by name, for another folder. Raises ResultError for weights or a card that are not there."""
    paths = [path.with_suffix(suffix) for suffix in PARTS]
    try:
        return {one.name: read_regular(one) for one in paths if one.exists() or one.suffix != ".csv"}
    except OSError as error:
        raise ResultError(f"{error.filename}: the fitted weights cannot be read ({error.strerror})") from error


def keep_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what `files_of` gave. Raises ResultError."""
    for name, content in files.items():
        with writing(folder / name, ResultError, OTHER_CACHE, what="cannot keep the fitted weights"):
            write_atomically(folder / name, content)


def drop_files(path: Path) -> None:
    """Remove what is kept under this path, the card first, and the state of a training. Raises OSError."""
    for suffix in reversed(PARTS):
        path.with_suffix(suffix).unlink(missing_ok=True)
    remove_checkpoints(path.with_suffix(".training"))


def clear_checkpoint(checkpoint: Path, card: Path) -> None:
    """Remove what a process left that was killed after it had stored a model; a training in progress is newer."""
    with suppress(OSError):  # there is none, or nothing may be removed here
        if checkpoint.stat().st_mtime_ns <= card.stat().st_mtime_ns:
            remove_checkpoints(checkpoint)


def _sealed(card: FitCard) -> bytes:
    """The card's file: with its digest, since cost and history are figures, too."""
    record = {
        "card": _cards().dump_python(card, mode="json"),
        "sha256": hashlib.sha256(_content(card)).hexdigest(),
    }
    return json.dumps(record, indent=1).encode() + b"\n"


def _content(card: FitCard) -> bytes:
    """What the digest is of: without what cards did not always have, where it is not there."""
    return _cards().dump_json(card, exclude=None if card.preprocessing else {"preprocessing"})


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


def stored(path: Path, parent: Model, key: str) -> Fitted | None:
    """Weights of an earlier run; None where they are absent, half written, not what their card says, or were trained on
    images that were prepared otherwise."""
    try:
        card = _read_card(path.with_suffix(".json"))
        model = models.with_weights(parent, path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, ModelError):
        return None
    same = card.preprocessing in ("", parent.preprocessing.describe())  # a config.json may have been edited
    return Fitted(model, key, card) if same and models.weights_digest(model) == card.weights_digest else None


def stored_for_all(path: Path, parent: Model, key: str) -> Fitted | None:
    """`stored`, as the first process finds it. Raises ResultError in processes that cannot read what that one can."""
    if processes.count() == 1:
        return stored(path, parent, key)
    if not processes.first(lambda: stored(path, parent, key) is not None):
        return None
    with processes.section():
        found = stored(path, parent, key)
        if found is None:
            raise ResultError(
                f"{path}: only the first process can read it; all need one folder of weights (NSBENCH_CACHE)"
            )
    return found


def _read_card(path: Path) -> FitCard:
    """A card of this version or of an earlier one.

    Raises ValueError, LookupError, TypeError, AttributeError or RecursionError for what is none, or was changed.
    """
    content = read_regular(path)
    record = json.loads(content)
    if "card" in record:
        card = _cards().validate_python(record["card"])
        if record["sha256"] != hashlib.sha256(_content(card)).hexdigest():
            raise ValueError(f"{path}: differs from its digest")
        return card
    try:
        return _cards().validate_json(content)
    except ValidationError:
        changed = {"recipe": recipe_of(record["recipe"]), "history": [round_of(entry) for entry in record["history"]]}
        return _cards().validate_python(record | changed)
