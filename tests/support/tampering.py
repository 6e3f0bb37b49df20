"""Changes of a results folder that make a figure false, with who finds them out.

Whoever makes one makes all digests and figures fit again, unless the change is one of these. `honest` writes the folder;
each tampering changes it in place; `archived` packs what then lies there without looking at it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from submissions import N, digest, only, store

from nsbench import registry
from nsbench.data.source import digest_of
from nsbench.results import outcomes_path, read_outcomes, read_result, read_results, write_result
from nsbench.submission.pack import archive_of

SUITES = ("clean", "fgsm", "imagenet_v2", "imagenet_a")
METHODS = ("finetune", "ns")
TAMPERED = "ns"  # the row that is changed
ALLOWED = {"allow_unknown_data": True}


@dataclass(frozen=True)
class Tampering:
    """One change. `check`: part of the line by which `submit check` names it; "" where only a re-run can tell.

    `board`: a figure that a page would show is not what the outcomes give, so `show` and `report` name it too.
    """

    name: str
    change: Callable[[Path], None]
    check: str
    board: bool = False


def honest(folder: Path, change=lambda result: result) -> Path:
    """Two rows of results on four suites, as the runner writes them."""
    for method in METHODS:
        for suite in SUITES:
            store(folder, suite, method, change=change)
    return folder


def find(folder, suite, method=TAMPERED):
    """The stored result of a suite and a method."""
    (found,) = [one for one in read_results(folder)[0] if (one.suite, one.method) == (suite, method)]
    return found


def archived(folder: Path, path: Path) -> Path:
    """The folder's results as an archive whose manifest fits; nothing is checked."""
    files = {}
    for record in sorted(folder.rglob("*.json")):
        stem = f"results/{record.relative_to(folder).with_suffix('').as_posix()}"
        result = read_result(record)
        files[f"{stem}.json"] = record.read_bytes()
        files[f"{stem}.{result.outcomes_format}"] = outcomes_path(result).read_bytes()
    path.write_bytes(archive_of(files)[0])
    return path


# --- ways to change a folder ----------------------------------------------------------------------------------------


def edited(suite, change, method=TAMPERED):
    """The JSON alone: `change` gets the parsed record."""

    def tamper(folder):
        path = find(folder, suite, method).path
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return tamper


def put(value, *path):
    """`value` at this path of a record."""

    def change(record):
        for step in path[:-1]:
            record = record[step]
        record[path[-1]] = value

    return change


def redone(suite, outcomes=lambda one: one, change=lambda result: result, method=TAMPERED):
    """Other outcomes, with every figure and digest made anew; then `change` of the result."""

    def tamper(folder):
        stored = find(folder, suite, method)
        measured = {name: outcomes(one) for name, one in read_outcomes(stored).items()}
        outcomes_path(stored).unlink()
        stored.path.unlink()
        write_result(folder, change(fitting(stored, measured)), measured)

    return tamper


def fitting(result, measured):
    """The result with every figure that follows from these outcomes."""
    conditions = []
    for one in result.conditions:
        mine = measured[one.name]
        card = one.attack_card
        if card and "predictions_clean" in mine.extra:
            card = replace(card, images=int((mine.extra["predictions_clean"] == mine.labels).sum()), looked_at=0)
        accuracy = round(100 * float(mine.correct.mean()), 4)
        conditions.append(replace(one, n=len(mine), accuracy=accuracy, attack_card=card))
    return replace(result, conditions=tuple(conditions), score=registry.suites[result.suite].score(measured))


def with_provenance(**fields):
    return lambda result: replace(result, provenance=replace(result.provenance, **fields))


def with_conditions(**fields):
    return lambda result: replace(result, conditions=tuple(replace(one, **fields) for one in result.conditions))


def without(*names):
    """Outcomes without these columns."""
    return lambda one: replace(one, extra={name: one.extra[name] for name in one.extra if name not in names})


def right_only(one):
    """The images that were predicted right."""
    return only(one, one.ids[one.correct].tolist())


def predicted(one, predictions, **extra):
    """Other predictions over ten classes, with probabilities that fit."""
    label = np.where(predictions == one.labels, one.confidence, (1 - one.confidence) / 2).astype("f4")
    top5 = (predictions[:, None] + np.arange(5)) % 10
    return replace(one, predictions=predictions, label_probability=label, top5=top5, extra={**one.extra, **extra})


def all_right(one):
    return predicted(one, one.labels)


def labels_as_predicted(one):
    changed = replace(one, labels=one.predictions)
    return predicted(changed, one.predictions)


def robust(one):
    """No attack has broken any image."""
    before = one.extra["predictions_clean"]
    return predicted(one, before, predictions_uint8=before)


def surer(one):
    """More confident where it is right, less where it is wrong."""
    confidence = np.where(one.correct, np.float32(0.999969482421875), np.float32(0.5)).astype("f4")
    return replace(one, confidence=confidence, label_probability=np.where(one.correct, confidence, 0).astype("f4"))


def as_a_whole(result):
    """As old results were stored: without a limit, and without how many images there were."""
    return with_provenance(limit=None)(with_conditions(available=None)(result))


def wrong_as_unreadable(result):
    """What `right_only` left out, said to be unreadable."""
    (condition,) = result.conditions
    names = {f"gone/{k}": "cannot be decoded" for k in range(N - condition.n)}
    return replace(result, conditions=(replace(condition, unreadable=names),))


def invented_digest(result):
    conditions = tuple(replace(one, data_digest=digest(f"invented {one.split}")) for one in result.conditions)
    return replace(with_provenance(data_digest=digest_of(*(one.data_digest for one in conditions)))(result),
                   conditions=conditions)  # fmt: skip


def moved_to_seed(seed):
    """The same result under another seed, in its place."""

    def change(result):
        return replace(result, seed=seed, identity=digest(f"seed {seed} {result.suite}"))

    return change


def borrowed(folder):
    """The other row's outcomes under this row's name."""
    theirs = read_outcomes(find(folder, "imagenet_v2", METHODS[0]))
    (better,) = theirs.values()
    redone("imagenet_v2", outcomes=lambda one: all_right(better))(folder)


def truncated(folder):
    path = outcomes_path(find(folder, "fgsm"))
    path.write_bytes(path.read_bytes()[:-100])


def swapped(folder):
    """The other row's file of outcomes in place of this one's."""
    outcomes_path(find(folder, "fgsm")).write_bytes(outcomes_path(find(folder, "fgsm", METHODS[0])).read_bytes() + b" ")


def named_twice(folder):
    """The same measurement once more under another identity, with a better figure."""
    stored = find(folder, "imagenet_v2")
    measured = {name: all_right(one) for name, one in read_outcomes(stored).items()}
    write_result(folder, replace(fitting(stored, measured), identity="f" * 16), measured)


TABLE = (
    # figures
    Tampering("a better score", edited("fgsm", put(99.0, "score", "value")), "says 99.0000 %", board=True),
    Tampering("a narrower interval", edited("fgsm", put(39.9, "score", "low")), "says the interval", board=True),
    Tampering(
        "a better figure beside the score",
        edited("fgsm", put(99.0, "score", "extra", "accuracy after 8-bit rounding")),
        "says 'accuracy after 8-bit rounding' is 99.0000",
        board=True,
    ),
    Tampering("no figures beside the score", edited("fgsm", put({}, "score", "extra")), "does not state"),
    Tampering(
        "a better accuracy of a condition",
        edited("fgsm", put(99.0, "conditions", 1, "accuracy")),
        "says accuracy 99",
        board=True,
    ),
    Tampering("more images than there are", edited("clean", put(4000, "score", "n")), "says n = 4,000", board=True),
    Tampering(
        "a score made of another condition",
        edited("fgsm", put({"eps 0.5/255": 100.0}, "score", "made_of", "weights")),
        "in another way than the suite",
        board=True,
    ),
    Tampering("errors sold as accuracy", edited("fgsm", put(True, "lower_is_better")), "lower_is_better is 'True'"),
    # outcomes
    Tampering("outcomes cut short", truncated, "differs from the digest in its result", board=True),
    Tampering("outcomes of another row", swapped, "differs from the digest in its result", board=True),
    Tampering("only the right images", redone("imagenet_v2", right_only), "1,000 images were available, and has 28"),
    Tampering(
        "only the right images, as a whole set",
        redone("imagenet_v2", right_only, as_a_whole),
        "has 28 images, and 'v2' of shapes10 has 1,000",
    ),
    Tampering(
        "only the right images, as a limit of so many",
        redone("imagenet_v2", right_only, lambda one: with_provenance(limit=one.score.n)(one)),
        "has images that are not in 'v2' of shapes10",
    ),
    Tampering(
        "only the right images, the others unreadable",
        redone("imagenet_v2", right_only, wrong_as_unreadable),
        "those of 'v2' of shapes10 always can",
    ),
    Tampering("labels that were predicted", redone("imagenet_v2", labels_as_predicted), "labels are not those of 'v2'"),
    Tampering("no norms", redone("fgsm", without("linf", "l2")), "its outcomes lack linf, l2"),
    Tampering(
        "no predictions before the attack", redone("fgsm", without("predictions_clean")), "lack predictions_clean"
    ),
    Tampering("no predictions over all classes", redone("imagenet_a", without("predictions_all")), "predictions_all"),
    Tampering(
        "norms beyond the budget",
        redone(
            "fgsm",
            lambda one: replace(one, extra=one.extra | {"linf": one.extra["linf"] * 2, "l2": one.extra["l2"] * 2}),
        ),
        "linf norms beyond the budget",
    ),
    Tampering(
        "clean predictions made right in one suite alone",
        redone("clean", all_right),
        "are predicted otherwise than in suite 'clean'",
    ),
    # what was evaluated
    Tampering("a weaker attack", edited("fgsm", put(0.1 / 255, "conditions", 0, "threat", "eps")), "threat is"),
    Tampering("another version of the suite", edited("fgsm", put(7, "suite_version")), "version 7 of the suite"),
    Tampering("invented data", redone("imagenet_v2", change=invented_digest), "is not that of 'v2' of shapes10"),
    Tampering("another origin", redone("clean", change=with_conditions(origin="official")), "origin is 'official'"),
    Tampering("a limit below the images", redone("clean", change=with_provenance(limit=20)), "with a limit of 20"),
    Tampering(
        "a limit sold as the whole set",
        redone("imagenet_v2", change=with_conditions(available=N)),
        "says that 40 images were available, and 'v2' of shapes10 has 1,000",
    ),
    Tampering("no limit", redone("clean", change=with_provenance(limit=None)), "and has 40 of them with no limit"),
    Tampering("a part as the whole set", redone("clean", change=as_a_whole), "has 40 images, and 'clean' of shapes10"),
    Tampering(
        "other data in all", redone("fgsm", change=with_provenance(data_digest="9" * 16)), "provenance.data_digest"
    ),
    Tampering(
        "fewer images attacked than were right",
        edited("fgsm", put(3, "conditions", 0, "attack_card", "images")),
        "its attack card",
    ),
    Tampering("no attack card", edited("fgsm", put(None, "conditions", 0, "attack_card")), "has no attack card"),
    # whose figures these are
    Tampering(
        "other weights in one suite",
        redone("fgsm", change=with_provenance(weights_digest="9" * 16)),
        "provenance.weights_digest is '9999999999999999'",
    ),
    Tampering(
        "another checkpoint in one suite",
        redone("fgsm", change=with_provenance(parent_digest="9" * 16)),
        "provenance.parent_digest is '9999999999999999'",
    ),
    Tampering(
        "another recipe in one suite",
        redone("fgsm", change=lambda one: with_provenance(recipe=replace(one.provenance.recipe, name="plain"))(one)),
        "provenance.recipe",
    ),
    Tampering("no recipe", redone("fgsm", change=with_provenance(recipe=None)), "provenance.recipe is empty"),
    Tampering(
        "another preparation of the images in one suite",
        redone("fgsm", change=with_provenance(preprocessing="none")),
        "provenance.preprocessing is 'none'",
    ),
    Tampering(
        "another normalisation in one suite",
        redone("fgsm", change=with_provenance(normalisation="imagenet")),
        "provenance.normalisation is 'imagenet'",
    ),
    Tampering(
        "another version of the method in one suite",
        redone("fgsm", change=with_provenance(method_version=9)),
        "provenance.method_version is '9'",
    ),
    Tampering(
        "another seed in one suite", redone("fgsm", change=moved_to_seed(3)), "seed is 0, and the result's seed is 3"
    ),
    Tampering(
        "the title of a better row",
        redone("fgsm", change=lambda one: replace(one, method_title="Madry")),
        "method_title is 'Madry'",
    ),
    Tampering("one measurement twice", named_twice, "of the same measurement"),
    Tampering("the newest of all", redone("fgsm", change=with_provenance(date="9999")), "provenance.date is '9999'"),
    # what no file can prove
    Tampering("predictions that no model made", redone("imagenet_v2", all_right), ""),
    Tampering("the outcomes of a better row", borrowed, ""),
    Tampering("an attack that never broke anything", redone("fgsm", robust), ""),
    Tampering("surer where it is right", redone("imagenet_v2", surer), ""),
)
