"""Archives of results for tests: results of real suites as the runner writes them, and archives changed by a stranger."""

import hashlib
import io
import json
from dataclasses import replace
from functools import cache

import made
import numpy as np

from nsbench import registry
from nsbench.data.source import digest_of
from nsbench.making.transfer import TransferSource
from nsbench.results import AttackCard, write_result
from nsbench.shapes10.published import PublishedShapes10
from nsbench.submission import check_archive, open_archive
from nsbench.submission.figures import FIELDS
from nsbench.submission.pack import archive_of
from nsbench.types import PROBABILITY_STEP, Outcomes

registry.load_content()
N = 40
STEM = "results/shapes10/vit/ns/fgsm.seed0"
SOURCE = TransferSource(PublishedShapes10())


@cache
def images(split, limit=None):
    """The first N images of a split, as `--limit N` takes them; nothing is drawn."""
    return SOURCE.split(split).limited(limit).limited(N)


def outcomes(condition, seed):
    """Made-up outcomes on real images; before any attack they are the same in every condition on a split."""
    split = images(condition.split, condition.limit)
    labels = split.labels
    classes = np.array(split.classes or range(10))
    place = np.searchsorted(classes, labels)

    def other(step):
        return classes[(place + step) % len(classes)]

    clean = np.where(np.random.default_rng(1).random(N) < 0.7, labels, other(1))
    if not condition.attack:
        return judged(split, clean, seed)
    rng, right = np.random.default_rng(seed), clean == labels
    predictions = np.where(right & (rng.random(N) < 0.5), other(2), clean)
    norms = np.where(right, np.float32(condition.threat.eps or 0), 0).astype("f4")
    extra = {"predictions_clean": clean, "predictions_uint8": predictions, "linf": norms, "l2": norms}
    return judged(split, predictions, seed, extra)


def judged(split, predictions, seed, extra=None):
    """Outcomes with probabilities that fit the predictions."""
    classes = np.array(split.classes or range(10))
    steps = np.random.default_rng(seed + 1000).integers(1 << 15, 1 << 16, N)
    confidence = (steps * PROBABILITY_STEP).astype("f4")
    label = np.where(predictions == split.labels, confidence, (1 - confidence) / 2).astype("f4")
    top5 = classes[(np.searchsorted(classes, predictions)[:, None] + np.arange(5)) % len(classes)]
    every = {"predictions_all": predictions} if split.classes else {}
    return Outcomes(split.ids, split.labels, predictions, every | (extra or {}), label, confidence, top5)


def only(measured, ids):
    """The outcomes of these images."""
    kept = np.isin(measured.ids, list(ids))
    extra = {name: values[kept] for name, values in measured.extra.items()}
    columns = ("ids", "labels", "predictions", "label_probability", "confidence", "top5")
    return replace(measured, **{name: getattr(measured, name)[kept] for name in columns}, extra=extra)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def card(measured):
    """The attack card of these outcomes."""
    right = int((measured.extra["predictions_clean"] == measured.labels).sum())
    return AttackCard(
        images=right, forwards=1.0, backwards=1.0, seconds=0.001, looked_at=right, library="nsbench 0.1.0"
    )


def store(folder, suite="fgsm", method="ns", *, seed=0, change=lambda result: result, measure=outcomes):
    """A result as the runner writes it, for a real suite and a real method, on `--limit N`."""
    own, fitted = registry.suites[suite], registry.methods[method]
    measured = {c.name: measure(c, seed + index) for index, c in enumerate(own.conditions())}
    conditions = tuple(
        made.condition(
            c.name,
            measured[c.name],
            split=c.split,
            attack=c.attack,
            params=dict(c.params),
            threat=c.threat,
            beforehand=c.beforehand,
            preprocess=c.preprocess,
            data_digest=images(c.split, c.limit).digest,
            origin=images(c.split, c.limit).origin,
            surrogate_digest=images(c.split, c.limit).surrogate_digest,
            attack_card=card(measured[c.name]) if c.attack else None,
            available=len(SOURCE.split(c.split).limited(c.limit)),
        )
        for c in own.conditions()
    )
    result = made.result(
        model="vit",
        method=method,
        suite=suite,
        seed=seed,
        score=own.score(measured),
        **{name: getattr(own, name) for name in (*FIELDS, "summary", "citation")},
        suite_version=own.version,
        method_title=fitted.title,
        method_summary=fitted.summary,
        method_role=fitted.role,
        conditions=conditions,
        recipe=made.recipe(seed=seed) if fitted.trains else None,
        weights_digest=digest(f"weights {method} {seed}") if fitted.trains else "a" * 16,
        fit_key=digest(f"fit {method} {seed if fitted.trains else ''}"),
        data_digest=digest_of(*(one.data_digest for one in conditions)),
        limit=N,
        identity=digest(f"{suite} {method} {seed}"),
    )
    return write_result(folder, change(result), measured)


def as_npz(measured):
    """The outcomes file of schema 1, which takes what no table takes."""
    arrays = {"conditions": np.array(list(measured)), "sets": np.arange(len(measured))}
    for index, one in enumerate(measured.values()):
        arrays |= {f"set{index}.ids": np.char.encode(one.ids, "utf-8"), f"set{index}.labels": one.labels}
        arrays |= {f"{index}.predictions": one.predictions}
        arrays |= {f"{index}.extra.{name}": values for name, values in one.extra.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def with_npz(path, content, stem=STEM):
    """The archive with other outcomes of one result, in the form of schema 1, and their digest made anew."""
    record = json.loads(open_archive(path).files[f"{stem}.json"])
    record |= {"outcomes_format": "npz", "outcomes_sha256": hashlib.sha256(content).hexdigest()}
    changed = {f"{stem}.json": json.dumps(record).encode(), f"{stem}.parquet": None, f"{stem}.npz": content}
    return rewritten(path, **changed)


def problems(path, **options):
    return check_archive(path, **options).problems


def rewritten(path, **members):
    """The archive with some members changed and the manifest made anew; None removes one."""
    files = dict(open_archive(path).files) | members
    path.write_bytes(archive_of({name: content for name, content in files.items() if content is not None})[0])
    return path


def edited(path, change, stem=STEM):
    """The archive with one result's JSON changed."""
    record = json.loads(open_archive(path).files[f"{stem}.json"])
    change(record)
    return rewritten(path, **{f"{stem}.json": json.dumps(record).encode()})


def put(key, value, *path):
    def change(record):
        for step in path:
            record = record[step]
        record[key] = value

    return change
