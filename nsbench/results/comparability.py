"""What two results must share to be compared, and what makes them rows of their own.

A table is of one source, one preprocessing and one image set: all images of every condition, or of each condition the
images that a limit leaves. What counts is which images were evaluated, not what was asked for: a set that is no larger
than the limit is evaluated as a whole with it and without it, so that result belongs to the table of the limit and to
that of all images. The limit of a run alone makes no table: there is one for a limit where it left images out of any
result, and one of all images where a result was asked for without a limit or stands in no other table.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from nsbench.results.record import ConditionResult, RecipeUsed, Result
from nsbench.results.threat_words import threat_words
from nsbench.types import Setting

ALL_IMAGES = "all images"


class ImageSet(NamedTuple):
    """Of every condition all images, or those that a limit leaves."""

    limit: int | None = None

    def __str__(self) -> str:
        return f"limit {self.limit}" if self.limit else ALL_IMAGES

    def holds(self, result: Result) -> bool:
        """Of each of its conditions, exactly these images were evaluated."""
        own = image_set(result)
        fits = self.limit and max(map(_evaluated, result.conditions)) <= self.limit
        return own == self or bool(own.limit is None and fits)


class TableKey(NamedTuple):
    """Nothing in a table is compared with what differs in one of these."""

    source: str
    images: ImageSet
    preprocessing: str

    @property
    def place(self) -> tuple[str, str, str]:
        """In the order of tables."""
        return self.source, str(self.images), self.preprocessing

    def takes(self, result: Result) -> bool:
        same = (self.source, self.preprocessing) == (result.source, preprocessing(result))
        return same and self.images.holds(result)


def image_set(result: Result) -> ImageSet:
    """All images, unless the limit of the run left some out."""
    limit = result.provenance.limit
    return ImageSet(limit if limit and any(_is_cut(one, limit) for one in result.conditions) else None)


def _is_cut(condition: ConditionResult, limit: int) -> bool:
    """Of results that do not say how many images there were: as many images as the limit were cut by it."""
    if condition.available is None:
        return _evaluated(condition) >= limit
    return condition.available > _evaluated(condition)


def _evaluated(condition: ConditionResult) -> int:
    """Images that the condition was evaluated on, or would have been but for files that cannot be read."""
    return condition.n + len(condition.unreadable)


def preprocessing(result: Result) -> str:
    """What the checkpoint does to a picture, in words."""
    return result.provenance.preprocessing


def by_table(results: Iterable[Result]) -> dict[TableKey, list[Result]]:
    """The tables of these results, in their order; a result may be in several."""
    mine = list(results)
    cut = {(one.source, image_set(one), preprocessing(one)) for one in mine if image_set(one).limit}

    def home(result: Result) -> TableKey:
        asked = result.source, ImageSet(result.provenance.limit), preprocessing(result)
        return TableKey(*asked) if asked in cut else TableKey(asked[0], image_set(result), asked[2])

    alike = defaultdict(list)
    for one in mine:
        alike[one.source, preprocessing(one)].append(one)
    keys = sorted({home(one) for one in mine}, key=lambda key: key.place)
    return {key: [one for one in alike[key.source, key.preprocessing] if key.images.holds(one)] for key in keys}


def measured(result: Result) -> dict[str, object]:
    """What must agree for two figures of a suite to be comparable, by the words that name a disagreement."""
    conditions = result.conditions
    return {
        "suite version": result.suite_version,
        "images per condition": _common([one.n for one in conditions]),
        "origin of the images": _common([" ".join(filter(None, [one.origin, one.size_apart])) for one in conditions]),
        "preprocessing": [result.provenance.preprocessing, *(one.preprocess for one in conditions)],
        "conditions": [
            [
                one.name,
                one.split,
                one.attack,
                threat_words(one.threat) if one.threat else None,
                sorted(one.params.items()),
            ]
            for one in conditions
        ],
        "images": [one.data_digest for one in conditions],
    }


def _defined(result: Result) -> dict[str, object]:
    """What must agree beside it: whose code it was measured with, and what the score is. Not in baselines, which state
    this in a way of their own."""
    attacks = dict.fromkeys(one.attack for one in result.conditions if one.attack)
    return {
        "code of the suite or its attacks": _codes(
            result, f"suite {result.suite}", *(f"attack {one}" for one in attacks)
        ),
        "unit": [result.unit, result.lower_is_better],
        MADE_OF: _made_of(result),
    }


def _codes(result: Result, *whats: str) -> list[str]:
    """Digests of the user's own code of these; what the package brings has a version instead."""
    return [f"{what} {code}" for what in whats if (code := result.provenance.versions.get(what))]


def _made_of(result: Result) -> object:
    """By condition what counts and with which weight, as far as single precision tells."""
    made_of = result.score.made_of
    if made_of is None:
        return None
    return made_of.counts, sorted((name, float(f"{weight:.6g}")) for name, weight in made_of.weights.items() if weight)


MADE_OF = "composition of the score"


def _common(values: Sequence[object]) -> object:
    return values[0] if len(set(values)) <= 1 else values


@dataclass(frozen=True)
class Measured:
    """What a result measured, worked out once."""

    what: Mapping[str, object]
    size_apart: str = ""  # in what the size of the images differs from the benchmark's

    @classmethod
    def of(cls, result: Result) -> Measured:
        what = measured(result) | _defined(result)
        return cls(what, ", ".join(sorted({one.size_apart for one in result.conditions} - {""})))

    @cached_property
    def fingerprint(self) -> str:
        """Equal where two figures of a suite may be compared."""
        return json.dumps(self.what, sort_keys=True, default=str)

    def reason_apart(self, reference: Measured) -> str:
        """In what this differs from its column; "" where it may be compared."""
        if self.what == reference.what:
            return ""
        for what, value in self.what.items():
            theirs = reference.what[what]
            if what == MADE_OF and None in (value, theirs):  # compared by its interval alone
                continue
            if value != theirs:
                if isinstance(value, (int, str)) and isinstance(theirs, (int, str)):
                    return f"{what}: {value} instead of {theirs}"
                return f"other {what} than the rest of the column"
        return ""


def recipe_key(result: Result) -> str:
    """The recipe without its seed, "" where nothing was trained; equal for rows trained alike."""
    recipe = result.provenance.recipe
    return json.dumps([recipe.name, dict(recipe.settings)], sort_keys=True, default=str) if recipe else ""


class Kin(NamedTuple):
    """Equal for results that differ in method, suite and seed alone."""

    model: str
    normalisation: tuple[str, tuple[float, ...], tuple[float, ...]]  # its word, mean and std
    recipe: str  # see `recipe_key`
    parent_digest: str

    @property
    def checkpoint(self) -> Kin:
        """The same, however it was trained."""
        return self._replace(recipe="")


NO_KIN = Kin("", ("", (), ()), "", "")


def kin_of(result: Result) -> Kin:
    own = result.provenance
    normalised = own.normalisation, tuple(own.mean), tuple(own.std)
    return Kin(result.model, normalised, recipe_key(result), own.parent_digest)


def row_key(result: Result) -> Hashable:
    """What makes a row of its own; the seed does not, and neither does the recipe's.

    A method's settings count where they differ from its defaults, so that one may get a new setting.
    """
    return result.provenance.method_version, method_code(result), method_key(result)


def method_code(result: Result) -> str:
    """Digest of the user's own code that the method is defined by; "" for one of the package."""
    return "".join(_codes(result, f"method {result.method}"))


def method_key(result: Result) -> Hashable:
    """The same for every version of the method: its rows have one history."""
    return result.method, own_settings(result), kin_of(result)


def own_settings(result: Result) -> tuple[tuple[str, str], ...]:
    """The settings of the method's own that are not its defaults."""
    own = result.provenance.own_settings
    return tuple(sorted((name, str(setting.value)) for name, setting in own.items() if setting.changed))


def recipe_names(results: Iterable[Result]) -> list[str]:
    """The recipes by which anything here was trained."""
    return sorted({result.provenance.recipe.name for result in results if result.provenance.recipe})


@dataclass(frozen=True)
class Common:
    """What the rows of one table share, counted once."""

    several_recipes: bool
    starts: Counter[tuple[str, str]]  # rows of this model that start from these weights
    models: Counter[str]  # rows of this model
    settings: Counter[tuple[str, str, Setting]]  # rows whose recipe of this name has this value in this field
    stated: Counter[tuple[str, str]]  # rows whose recipe of this name states this field

    @classmethod
    def of(cls, rows: Sequence[Result]) -> Common:
        """`rows`: a result of each row."""
        starts = Counter((one.model, one.provenance.parent_digest) for one in rows)
        recipes = [one.provenance.recipe for one in rows if one.provenance.recipe]
        settings = Counter((one.name, *setting) for one in recipes for setting in one.settings.items())
        stated = Counter((one.name, field) for one in recipes for field in one.settings)
        models = Counter(one.model for one in rows)
        return cls(len(recipe_names(rows)) > 1, starts, models, settings, stated)

    def usual_start(self, row: Result) -> bool:
        """Whether more than half of the rows of its model start from the same weights."""
        return 2 * self.starts[row.model, row.provenance.parent_digest] > self.models[row.model]

    def usual(self, recipe: RecipeUsed, field: str) -> bool:
        """Whether more than half of the rows whose recipe has this name have its value."""
        return 2 * self.settings[recipe.name, field, recipe.settings[field]] > self.stated[recipe.name, field]


def qualifiers(result: Result, rivals: Sequence[Result], common: Common) -> tuple[str, ...]:
    """The recipe where the table has several; whatever else tells this row from `rivals`, rows of the same method; and
    the starting weights and fields of the recipe in which it is not as most rows of the table are."""
    own = result.provenance

    def differs(of: Callable[[Result], object]) -> bool:
        return len({of(rival) for rival in rivals}) > 1

    words = []
    if own.recipe and common.several_recipes:
        words.append(f"recipe {own.recipe.name}")
    if own.normalisation != "own":
        words.append(f"{own.normalisation} normalisation")
    if _several_of(own.normalisation, rivals):
        words.append(f"mean {_shown(own.mean)}, std {_shown(own.std)}")
    if own.name:
        words.append(own.name)
    elif differs(lambda one: one.provenance.parent_digest) or not common.usual_start(result):
        words.append(f"checkpoint {own.checkpoint or own.parent_digest[:8]}")
    if differs(lambda one: one.provenance.method_version):
        words.append(f"version {own.method_version}")
    if differs(method_code):
        words.append(f"code {own.versions.get(f'method {result.method}', '')[:8]}".rstrip())
    words += [f"{name.partition('.')[2]} {value}" for name, value in own_settings(result)]
    if own.recipe:
        words += _changed(own.recipe, [one.provenance.recipe for one in rivals if one.provenance.recipe], common)
    return tuple(words)


def _several_of(word: str, rivals: Sequence[Result]) -> bool:
    """One word of normalisation stands for several means and deviations, as a checkpoint's own may."""
    alike = [rival.provenance for rival in rivals if rival.provenance.normalisation == word]
    return len({(tuple(one.mean), tuple(one.std)) for one in alike}) > 1


def _shown(triple: Sequence[float]) -> str:
    """ "0.5" for three equal numbers, else all of them."""
    return " ".join(f"{one:g}" for one in (triple if len(set(triple)) > 1 else triple[:1]))


def _changed(recipe: RecipeUsed, others: Sequence[RecipeUsed], common: Common) -> list[str]:
    """Fields with their values in which a recipe differs from others of its name, or is not as most of the table's; its
    compute where that is bounded."""
    namesakes = [other.settings for other in others if other.name == recipe.name]
    fields = {key for other in namesakes for key, value in recipe.settings.items() if other.get(key) != value}
    fields |= {key for key in recipe.settings if not common.usual(recipe, key)}
    told = {key: recipe.settings[key] for key in sorted(fields) if key != "compute" or recipe.settings[key]}
    return [
        f"{key} {int(value) if isinstance(value, float) and value.is_integer() else value}"
        for key, value in told.items()
    ]
