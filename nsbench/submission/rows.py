"""What the results of one row must agree in: they are figures of one set of weights.

Two results with the same weights say the same of how these came about; two of the same method, recipe, checkpoint and
seed have the same weights, or no average may be taken over them; a measurement has one identity; and one model predicts
the same for the same images in every suite. Held results take part, and are right where a submitted one differs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nsbench.health import REPEAT_CHANGE
from nsbench.results import Result
from nsbench.results.comparability import preprocessing, row_key
from nsbench.submission.archive import shown
from nsbench.types import Outcomes

DISAGREEMENT = 0.02  # share of images that another machine's arithmetic may tip over
NOT_KEPT = ("", "()")  # by the first versions
SHORT = 60  # characters of a value that a line shows
Reading = Callable[[Result], object]

OF_WEIGHTS: Mapping[str, Reading] = {  # equal for all results on one set of trained weights
    "seed": lambda one: one.seed,
    "provenance.parent_digest": lambda one: one.provenance.parent_digest,
    "provenance.method_version": lambda one: one.provenance.method_version,
    "provenance.recipe": lambda one: one.provenance.recipe,
    "provenance.own_settings": lambda one: one.provenance.own_settings,
    "provenance.normalisation": lambda one: one.provenance.normalisation,
    "provenance.mean": lambda one: one.provenance.mean,
    "provenance.std": lambda one: one.provenance.std,
    "provenance.preprocessing": preprocessing,
    "provenance.fit_key": lambda one: one.provenance.fit_key,
}
OF_UNTRAINED = {name: OF_WEIGHTS[name] for name in OF_WEIGHTS if name not in ("seed", "provenance.recipe")}
OF_ROW: Mapping[str, Reading] = {"provenance.weights_digest": lambda one: one.provenance.weights_digest}
OF_MEASUREMENT: Mapping[str, Reading] = {"identity": lambda one: one.identity}


def row_problems(results: Mapping[str, Result], held: Sequence[Result]) -> list[str]:
    """Disagreements, a line each. `results`: by the name of their member in the archive."""
    problems: dict[str, None] = {}
    for key, fields, same in (
        (_weights, OF_WEIGHTS, "weights"),
        (_untrained, OF_UNTRAINED, "weights"),
        (_row, OF_ROW, "row and seed"),
        (_measurement, OF_MEASUREMENT, "measurement"),
    ):
        for ours, theirs in _groups(results, held, key):
            problems |= dict.fromkeys(_odd(ours, theirs, fields, same))
    return list(problems)


def _weights(result: Result) -> Hashable:
    own = result.provenance
    if own.weights_digest == own.parent_digest:  # nothing was trained, or nothing came of it
        return None
    return result.model, result.method, own.weights_digest


def _untrained(result: Result) -> Hashable:
    """The same checkpoint may be normalised in two ways, which are two rows, and has any seed."""
    own = result.provenance
    if own.weights_digest != own.parent_digest:
        return None
    return result.model, result.method, own.weights_digest, own.normalisation


def _row(result: Result) -> Hashable:
    return result.source, preprocessing(result), row_key(result), result.seed


def _measurement(result: Result) -> Hashable:
    own = result.provenance
    if not own.fit_key:  # the first versions kept none
        return None
    images = tuple((one.data_digest, one.origin, one.n) for one in result.conditions)
    how = own.fit_key, own.weights_digest, own.preprocessing, own.normalisation
    return result.source, result.suite, result.suite_version, result.seed, how, images


def _groups(
    results: Mapping[str, Result], held: Sequence[Result], key: Callable[[Result], Hashable]
) -> list[tuple[dict[str, Result], list[Result]]]:
    """Submitted and held results by this key; None is no key."""
    ours: dict[Hashable, dict[str, Result]] = defaultdict(dict)
    theirs: dict[Hashable, list[Result]] = defaultdict(list)
    for name, result in results.items():
        ours[key(result)][name] = result
    for result in held:
        theirs[key(result)].append(result)
    return [(mine, theirs[what]) for what, mine in ours.items() if what is not None]


def _odd(ours: Mapping[str, Result], held: Sequence[Result], fields: Mapping[str, Reading], same: str) -> list[str]:
    """Who says otherwise than the held results, or than most of the submitted ones."""
    problems = []
    who = f"{'the results held here' if held else 'the other results of this archive'} of the same {same}"
    for what, read in fields.items():
        said = {name: str(read(one)) for name, one in ours.items()}
        right = _commonest([str(read(one)) for one in held]) or _commonest(said.values())
        for name, text in said.items():
            if right and text not in (right, *NOT_KEPT):
                short = max(len(text), len(right)) <= SHORT
                words = f"is {shown(text)}, and {shown(right)} in" if short else "is another than in"
                problems.append(f"{name}: {what} {words} {who}")
    return problems


def _commonest(texts: Iterable[str]) -> str:
    """The first of these where several are as common; "" where nothing was kept."""
    counts = Counter(text for text in texts if text not in NOT_KEPT).most_common(1)
    return counts[0][0] if counts else ""


@dataclass
class CleanPredictions:
    """What each model of an archive says of images as they are, which suites that attack them tell again."""

    splits: frozenset[str]  # that are attacked
    _known: dict[Hashable, tuple[str, dict[str, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Iterable[Result]) -> CleanPredictions:
        return cls(frozenset(one.split for result in results for one in result.conditions if one.attack))

    def problems(self, result: Result, outcomes: Mapping[str, Outcomes]) -> list[str]:
        """Conditions that tell otherwise than the result that came first. A model that is known not to repeat its
        outputs has a health flag for it."""
        outputs, problems = result.provenance.outputs, []
        if outputs and outputs.repeat_change > REPEAT_CHANGE:
            return []
        for condition in [one for one in result.conditions if one.split in self.splits]:
            mine = outcomes[condition.name]
            before = mine.extra["predictions_clean"] if condition.attack else mine.predictions
            told = dict(zip(mine.ids.tolist(), before.tolist(), strict=True))
            own = result.provenance
            key = result.source, result.model, own.weights_digest, own.mean, own.std, own.preprocessing
            images = condition.split, condition.preprocess, condition.origin, condition.surrogate_digest
            first, known = self._known.setdefault((key, images), (result.suite, told))
            common = known.keys() & told.keys()
            differ = sum(known[one] != told[one] for one in common)
            if differ > max(1, DISAGREEMENT * len(common)):
                problems.append(
                    f"condition {shown(condition.name)}: {differ:,} of {len(common):,} images are predicted otherwise "
                    f"than in suite {shown(first)} of the same weights, before any attack"
                )
        return problems[:3]
