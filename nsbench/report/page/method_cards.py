"""The card of a method: recipe, dynamics, cost, lineage, weights, command; ready for the template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nsbench.leaderboard import Measurement, Row
from nsbench.report.commands import commands_of
from nsbench.report.plots import Figure, Lines, Look, Point, Series
from nsbench.results.record import Provenance, RecipeUsed, Result, Round
from nsbench.types import Setting

OF_255 = ("attack_eps", "attack_step_size")  # fields of a recipe in l-infinity, written as shares of 255


@dataclass(frozen=True)
class MethodCard:
    row: Row
    result: Result  # of the first seed the newest one: lineage, weights, date and dynamics are its
    dynamics: Sequence[Figure]

    @property
    def commands(self) -> list[str]:
        """That make every figure of the row again."""
        return commands_of(self.row.results)

    @property
    def seeds(self) -> list[int]:
        return sorted({result.seed for result in self.row.results})

    @property
    def of_seed(self) -> str:
        """Behind what is of one seed, where the row has several; "" where it has one."""
        return f", seed {self.result.seed}" if len(self.seeds) > 1 and self.recipe else ""

    @property
    def recipe(self) -> RecipeUsed | None:
        return self.result.provenance.recipe

    @property
    def training(self) -> str:
        """By which recipe, if by any."""
        return f"recipe {self.recipe.name}" if self.recipe else "no training"

    @property
    def settings(self) -> list[tuple[str, str]]:
        """The method's own settings, then every field of the recipe, with their values, in words."""
        if self.recipe is None:
            return []
        fields: dict[str, Setting] = {name: one.value for name, one in self.result.provenance.own_settings.items()}
        fields |= {"name": self.recipe.name, "seed": ", ".join(map(str, self.seeds)), **self.recipe.settings}
        return [(name.replace("_", " "), _setting(name, value)) for name, value in fields.items()]

    @property
    def warning(self) -> str:
        """What a reader must know about the training."""
        newest_last = sorted(self.row.results, key=lambda one: one.provenance.date)
        trainings = {result.seed: result.provenance.history for result in newest_last if result.provenance.history}
        noises = [one.noise for rounds in trainings.values() for one in rounds if one.noise]
        converged = [noise.converged for noise in noises if noise.converged is not None]
        missed = converged.count(False)
        if not missed:
            return ""
        of_all = f" of {len(trainings)} trainings" if len(trainings) > 1 else ""
        return f"In {missed} of {len(converged)} rounds{of_all} the noise was still outside ε after the last step."

    @property
    def facts(self) -> list[tuple[str, str]]:
        own = self.result.provenance
        return [
            (what, text)
            for what, text in (
                ("seeds", ", ".join(map(str, self.seeds))),
                ("checkpoint", own.checkpoint),
                ("normalisation", own.normalisation),
                ("prepared", "; ".join(own.prepared)),
                *_cost(self.row),
                (f"lineage{self.of_seed}", _lineage(self.row, own)),
                (f"weights{self.of_seed}", own.weights_digest),
                (f"device{self.of_seed}", own.device),
                (f"nsbench{self.of_seed}", " ".join(filter(None, (own.nsbench, own.commit)))),
                (f"date{self.of_seed}", own.date),
            )
            if text
        ]

    @property
    def links(self) -> list[tuple[str, str]]:
        """What an author states as an address; the record takes none but those of the web."""
        about = self.result.provenance.about
        found = ((what, getattr(about, what)) for what in ("paper", "code", "weights")) if about else ()
        return [(what, address) for what, address in found if address]

    @property
    def credit(self) -> str:
        """Title, authors, licence and date, as the author states them."""
        about = self.result.provenance.about
        if about is None:
            return ""
        return ". ".join(filter(None, [about.title, ", ".join(about.authors), about.licence, about.date]))

    @property
    def effective(self) -> list[tuple[str, float]]:
        """Effective robustness in percentage points, by the title of its column."""
        return [(self.row.cells[suite].results[0].title, value) for suite, value in self.row.effective.items()]

    @property
    def history(self) -> list[tuple[str, Sequence[Measurement]]]:
        """Of each suite that was measured more than once its title and its measurements, newest first."""
        cells = sorted(self.row.cells.items(), key=lambda one: (one[1].results[0].order, one[0]))
        return [(cell.results[0].title, self.row.history[name]) for name, cell in cells if name in self.row.history]


def _setting(name: str, value: Setting) -> str:
    """A value in words, as `nsbench list recipes` writes it: shares of 255 as such, "none" where there is none."""
    if isinstance(value, tuple):
        return ", ".join(_setting(name, one) for one in value)
    if name in OF_255 and isinstance(value, float):
        return f"{255 * value:g}/255"
    return f"{value:.6g}" if isinstance(value, float) else str(value) or "none"


def method_card(row: Row, look: Look) -> MethodCard:
    first = min(result.seed for result in row.results)
    result = max((one for one in row.results if one.seed == first), key=lambda one: one.provenance.date)
    return MethodCard(row, result, _dynamics(row, result.provenance, look))


def _lineage(row: Row, own: Provenance) -> str:
    """From which weights these were made."""
    if not own.parent_digest or own.parent_digest == own.weights_digest:
        return f"{row.model} {own.weights_digest}".strip()
    stages = [(one.method, one.weights_digest) for one in own.lineage] or [(row.method, own.weights_digest)]
    return " → ".join([f"{row.model} {own.parent_digest}", *(" ".join(stage).strip() for stage in stages)])


def _cost(row: Row) -> list[tuple[str, str]]:
    cost = row.cost
    if cost is None:
        return [("training", "none")]
    return [
        ("training", f"{cost.fit_seconds:,.0f} s" if cost.fit_seconds else "none"),
        ("training in forwards", f"{cost.forward_equivalents:,.0f} images" if cost.forward_equivalents else ""),
        (
            "evaluation",
            f"{cost.evaluation_seconds:,.0f} s, {len(row.results)} suite runs" if cost.evaluation_seconds else "",
        ),
        ("peak memory", f"{cost.peak_memory_mib:,} MiB" if cost.peak_memory_mib else ""),
    ]


# --- dynamics -------------------------------------------------------------------------------------------------------


def _dynamics(row: Row, own: Provenance, look: Look) -> list[Figure]:
    """Noise norm, MSE probability, losses and watched accuracies over the rounds, where the method has them."""
    rounds = _last_stage(own.history)
    noises = [(one.round, one.noise) for one in rounds if one.noise]
    epsilon = own.recipe.settings.get("epsilon") if own.recipe else None
    reference = (float(epsilon), f"ε = {epsilon:g}") if isinstance(epsilon, (int, float)) else None
    hollow = replace(look, hollow=not look.hollow)
    norm = _series(row.title, look, [(k, noise.norm) for k, noise in noises])
    reached = _series("its batch", look, [(k, noise.mse_probability) for k, noise in noises])
    reached += _series("held out", hollow, [(k, noise.mse_probability_held_out) for k, noise in noises])
    losses: list[Series] = []
    for name, own_look in zip(_names(one.losses for one in rounds), (look, hollow), strict=False):
        losses += _series(name, own_look, [(one.round, one.losses.get(name)) for one in rounds])
    watched: list[Series] = []
    for index, name in enumerate(_names(one.accuracies for one in rounds)):
        watched += _series(name, Look(index), [(one.round, one.accuracies.get(name)) for one in rounds])
    found = (
        ("noise", "Norm of the noise", norm, "‖v‖", None),
        ("moved", "How far it moves the output", reached, "MSE probability", reference),
        ("loss", "Training loss", losses, "loss", None),
        ("watched", "Accuracy on 200 images", watched, "%", None),
    )
    return [
        Figure(f"{name}-{row.label}", title, _over_rounds(series, unit, level))
        for name, title, series, unit, level in found
        if series
    ]


def _last_stage(history: Sequence[Round]) -> list[Round]:
    """The rounds of the method itself: a chain's earlier methods counted theirs from 1 too."""
    return [one for one in history if one.stage == history[-1].stage]


def _names(figures: Iterable[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for mine in figures for name in mine))


def _series(label: str, look: Look, values: Sequence[tuple[int, float | None]]) -> list[Series]:
    """A line through what is known by round; none where that is fewer than two rounds."""
    points = [Point(k, value) for k, value in values if value is not None]
    return [Series(label, look, points)] if len(points) > 1 else []


def _over_rounds(series: Sequence[Series], title: str, reference: tuple[float, str] | None) -> Lines:
    whole = sorted({point.x for one in series for point in one.points})
    ticks = whole[:: -(-len(whole) // 6)]  # there is no round 1.5
    return Lines(series, "round", title, reference=reference, x_ticks=ticks)
