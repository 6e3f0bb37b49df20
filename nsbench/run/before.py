"""What can be known before the work starts is said before it: images that nobody reads, conditions on other images, labels
that are not the published ones, a model that an attack cannot work on, a disk that is too small."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch

from nsbench import registry
from nsbench.data import Split
from nsbench.data.unread import unread_words
from nsbench.errors import DataError, MissingSplit, NsbenchError, UsageError
from nsbench.files import cache_folder
from nsbench.making.expected import EXPECTED, is_published_val
from nsbench.making.transfer import TransferSource
from nsbench.models import Model
from nsbench.run.attack_call import call_attack
from nsbench.run.guard import Guard
from nsbench.run.job import Job
from nsbench.run.sound import check_suite
from nsbench.training.trainable import meant_by
from nsbench.types import Condition, Outcomes, Suite

PUBLISHED = "imagenet"  # the name of a source that claims to be the published sets
IMAGE_BYTES = 32  # of one image's outcomes in a condition: measured, with probabilities and norms
PICTURES_BYTES = 2_000_000  # of the pictures that a pair keeps, at most
COPIES = 5  # of a training model's weights: kept, being trained, averaged, and two moments of the optimiser
IMAGES = 50_000  # of a condition, where the source has no clean images to count


def require_all_read(job: Job, splits: Sequence[Split]) -> None:
    """Raises DataError for pictures inside a set that are not read, unless the options allow to leave them out."""
    words = next(filter(None, map(unread_words, splits)), "")
    if words and not job.options.allow_missing:
        raise DataError(f"{words} Put it in order, or accept the rest with --allow-missing")


def require_published_labels(job: Job, suite: Suite) -> None:
    """Raises DataError for sets of all validation images whose labels are not those of the published list."""
    if job.source.name != PUBLISHED:
        return
    for name in dict.fromkeys(condition.split for condition in suite.conditions()):
        kind = EXPECTED.get(name.partition("/")[0])
        if kind and kind.of_val and not _published(job.source.split(name, job.progress)):
            raise DataError(
                f"'{name}': its labels are not those of the published validation list: are files in wrong folders, or is "
                "the label file in another order of classes? Correct them; labels that are meant so need a source of "
                'another name, name = "..." in a config file'
            )


@lru_cache(maxsize=256)
def _published(split: Split) -> bool:
    """False where the labels are known to be others: see `is_published_val`."""
    return is_published_val(dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True))) is not False


def rehearse(suite: Suite, splits: Sequence[Split]) -> None:
    """Score outcomes in which all is right: what is wrong with the images of a suite is said before the work.

    Raises DataError. A score that asks for what only an attack reports cannot be rehearsed.
    """
    if len(splits) < 2:
        return
    names = [condition.name for condition in suite.conditions()]
    outcomes = {name: Outcomes(one.ids, one.labels, one.labels) for name, one in zip(names, splits, strict=True)}
    with suppress(KeyError):
        suite.score(outcomes)


def not_attackable(job: Job) -> dict[str, NsbenchError]:
    """By suite: why it cannot be worked out, or why its attacks cannot work on this model or on the surrogate of its
    images. It is asked before a training, not after.

    Each attack is run on one grey image that the checkpoint gets wrong, of which there is nothing to attack.
    """
    refused: dict[str, NsbenchError] = {}
    guard: Guard | None = None
    for name in job.options.suites:
        try:
            conditions = check_suite(registry.suites[name])
            for split in _on_surrogate(job, conditions):
                with suppress(
                    MissingSplit
                ):  # a suite whose images are not there is no failure, and is said in its turn
                    job.source.split(split, job.progress)
            attacked = [one for one in conditions if one.attack]
            guard = guard or (Guard(job.parent) if attacked else None)  # a copy of the weights, where it is needed
            for condition in attacked:
                assert guard is not None
                with guard.around():
                    _try(job.parent, condition)
        except NsbenchError as error:
            refused[name] = error
    return refused


def require_use_of_surrogate(job: Job) -> None:
    """Raises UsageError for a surrogate that was named, and nothing is attacked on it."""
    named = job.options.surrogate
    for name in job.options.suites if named else ():
        with suppress(NsbenchError):
            if _on_surrogate(job, check_suite(registry.suites[name])):
                return
    if named:
        suites = ",".join(job.options.suites)
        raise UsageError(
            f"--surrogate {named}: no images of {suites} are attacked on it; leave it out, or add transfer"
        )


def _on_surrogate(job: Job, conditions: Sequence[Condition]) -> list[str]:
    """The splits of these conditions that are attacked on the surrogate beforehand."""
    source = job.source
    names = dict.fromkeys(condition.split for condition in conditions)
    return [name for name in names if isinstance(source, TransferSource) and source.is_attacked(name)]


def say_what_is_needed(job: Job) -> None:
    """Of methods that cannot train this model, or want more than images and a recipe and do not find it: said at once, and
    the others go on."""
    for name in job.options.methods:
        chosen = job.method(name)
        for method in chosen.parts or (chosen,):
            try:
                if method.trains:
                    method.require(job.parent, job.recipe)
                if method.needs:
                    method.needs(job.source.split("train", job.progress), **method.given)
            except NsbenchError as error:
                job.progress.line(f"{name}: {error}", style="yellow")


def _try(model: Model, condition: Condition) -> None:
    assert condition.attack is not None
    assert condition.threat is not None
    side = model.input_size
    grey_1CHW = torch.full((1, 3, side, side), 0.5, device=model.device)
    with torch.no_grad():
        wrong_1 = (model(grey_1CHW).argmax(dim=1) + 1) % model.num_classes
    call_attack(
        registry.attacks[condition.attack],
        model,
        grey_1CHW,
        wrong_1,
        ids=["grey"],
        seed=0,
        threat=condition.threat,
        params=condition.params,
    )


def require_trainable(job: Job) -> None:
    """Raises UsageError where the recipe trains a part that the model does not have."""
    if any(registry.methods[name].trains for name in job.options.methods):
        meant_by(job.parent, job.recipe.trainable)


def require_room(job: Job) -> None:
    """Raises UsageError where a disk has less room than what the run may write to it."""
    needed: dict[Path, tuple[int, str]] = {}
    for folder, size, what in (
        (job.options.results, _results_bytes(job), "results"),
        (job.options.weights or cache_folder(), _weights_bytes(job), "fitted weights"),
    ):
        disk = _existing(folder)
        before = next((one for one in needed if one.stat().st_dev == disk.stat().st_dev), disk)
        known, words = needed.get(before, (0, ""))
        needed[before] = known + size, f"{words} and {what}" if words else what
    for disk, (size, what) in needed.items():
        free = shutil.disk_usage(disk).free
        if free < size:
            raise UsageError(
                f"{disk}: {free / 1e9:.2f} GB are free, and {what} of this run may take {size / 1e9:.2f} GB; make room, or "
                "name another disk with --results, or with NSBENCH_CACHE for weights"
            )


def _results_bytes(job: Job) -> int:
    splits = job.source.splits()
    most = len(job.source.split("clean", job.progress)) if "clean" in splits else IMAGES
    images = min(most, job.options.limit or most)
    conditions = [len(registry.suites[name].conditions()) for name in job.options.suites]
    pairs = len(job.options.methods) * len(job.options.seeds)
    return pairs * sum(pair_bytes(count * images) for count in conditions)


def pair_bytes(images: int) -> int:
    """What the result of a pair may take, with so many images in all its conditions."""
    return images * IMAGE_BYTES + PICTURES_BYTES


def _weights_bytes(job: Job) -> int:
    trained = [name for name in job.options.methods if registry.methods[name].role != "untouched"]
    return weights_bytes(job, len(trained) * len(job.options.seeds))


def weights_bytes(job: Job, trainings: int) -> int:
    """Every training keeps its weights; the state of one is kept at a time, beside them."""
    weights = sum(value.numel() * value.element_size() for value in job.parent.parameters())
    return weights * (trainings + (COPIES if trainings else 0))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
