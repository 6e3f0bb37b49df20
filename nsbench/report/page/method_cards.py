"""The card of a method: recipe, dynamics, cost, lineage, weights, command; ready for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nsbench.leaderboard import Row
from nsbench.report.page import charts
from nsbench.report.page.charts import Point, Series
from nsbench.results import Result


@dataclass(frozen=True)
class MethodCard:
    row: Row
    result: Result  # the newest one
    recipe: Mapping[str, object]
    dynamics: Sequence[tuple[str, Markup]]  # title, chart

    @property
    def warning(self) -> str:
        """What a reader must know about the training."""
        rounds = [
            entry["noise_converged"]
            for entry in self.result.provenance.get("history") or []
            if "noise_converged" in entry
        ]
        missed = len(rounds) - sum(map(bool, rounds))
        if not missed:
            return ""
        return f"In {missed} of {len(rounds)} rounds the noise was still outside ε after the last step."

    @property
    def facts(self) -> list[tuple[str, str]]:
        own, cost = self.result.provenance, self.row.cost
        seeds = sorted({result.seed for result in self.row.results})
        return [
            (what, str(text))
            for what, text in (
                ("lineage", _lineage(self.row, own)),
                ("weights", own.get("weights_digest")),
                ("normalisation", own.get("normalisation")),
                ("seeds", ", ".join(map(str, seeds))),
                ("training", f"{cost.fit_seconds:,.0f} s" if cost and cost.fit_seconds else "none"),
                (
                    "training in forwards",
                    f"{cost.forward_equivalents:,.0f} images" if cost and cost.forward_equivalents else None,
                ),
                (
                    "evaluation",
                    f"{cost.evaluation_seconds:,.0f} s, {len(self.row.results)} suite runs"
                    if cost and cost.evaluation_seconds
                    else None,
                ),
                ("peak memory", f"{cost.peak_memory_mib:,} MiB" if cost and cost.peak_memory_mib else None),
                ("device", own.get("device")),
                ("nsbench", " ".join(str(own[key]) for key in ("nsbench", "commit") if own.get(key))),
                ("date", own.get("date")),
            )
            if text
        ]

    @property
    def effective(self) -> list[tuple[str, float]]:
        """Effective robustness in percentage points, by the title of its column."""
        return [(self.row.cells[suite].results[0].title, value) for suite, value in self.row.effective.items()]


def method_card(row: Row, styles: Mapping[str, str]) -> MethodCard:
    result = max(row.results, key=lambda r: str(r.provenance.get("date")))
    recipe = dict(result.provenance.get("recipe") or {})
    return MethodCard(row, result, recipe, _dynamics(row, result, recipe, styles))


def _lineage(row: Row, own: Mapping) -> str:
    """From which weights these were made."""
    parent, weights = own.get("parent_digest"), own.get("weights_digest")
    if not parent or parent == weights:
        return f"{row.model} {weights or ''}".strip()
    stages = own.get("lineage") or [{"method": row.method, "weights_digest": weights or ""}]
    steps = (f"{one['method']} {one['weights_digest']}".strip() for one in stages)
    return " → ".join([f"{row.model} {parent}", *steps])


def _dynamics(row: Row, result: Result, recipe: Mapping, styles: Mapping[str, str]) -> list[tuple[str, Markup]]:
    """Noise norm, MSE probability, losses and watched accuracies over the rounds, where the method has them."""
    epsilon, style = recipe.get("epsilon"), styles[row.label]
    reference = (float(epsilon), f"ε = {epsilon:g}") if isinstance(epsilon, (int, float)) else None
    norm = _history(result, "noise_norm")
    reached = _pair(result, style, (("learnt on", "mse_probability"), ("held out", "mse_probability_held_out")))
    losses = _pair(result, style, [(key.removeprefix("loss_"), key) for key in _keys(result, "loss_")][:2])
    watched = [
        Series(key.removeprefix("accuracy_"), f"k{index}", points)
        for index, key in enumerate(_keys(result, "accuracy_"))
        if len(points := _history(result, key)) > 1
    ]
    drawn = []
    if len(norm) > 1:
        drawn.append(("Norm of the learned noise", _narrow([Series(row.title, style, norm)], "‖v‖")))
    if reached:
        drawn.append(("How far it moves the output", _narrow(reached, "MSE probability", reference)))
    if losses:
        drawn.append(("Training loss", _narrow(losses, "loss")))
    if watched:
        drawn.append(("Accuracy on 200 images", _narrow(watched, "%")))
    return drawn


def _narrow(series: Sequence[Series], title: str, reference: tuple[float, str] | None = None) -> Markup:
    room = 76 if len(series) > 1 else 0
    whole = sorted({point.x for one in series for point in one.points})
    ticks = [(x, f"{x:g}") for x in whole[:: -(-len(whole) // 6)]]  # there is no round 1.5
    return charts.lines(
        series, "round", title, width=charts.NARROW, label_room=room, reference=reference, x_ticks=ticks
    )


def _pair(result: Result, style: str, keys: Sequence[tuple[str, str]]) -> list[Series]:
    """The first one filled, the second one hollow; without what has fewer than two rounds."""
    return [
        Series(label, f"{style}{look}", points)
        for (label, key), look in zip(keys, ("", " hollow"), strict=False)
        if len(points := _history(result, key)) > 1
    ]


def _history(result: Result, key: str) -> list[Point]:
    return [
        Point(entry.get("round", index), entry[key])
        for index, entry in enumerate(_last_stage(result), 1)
        if entry.get(key) is not None
    ]


def _keys(result: Result, start: str) -> list[str]:
    return list(dict.fromkeys(key for entry in _last_stage(result) for key in entry if key.startswith(start)))


def _last_stage(result: Result) -> list[Mapping]:
    """The rounds of the method itself: a chain's earlier methods counted theirs from 1 too."""
    history = result.provenance.get("history") or []
    return [entry for entry in history if entry.get("stage") == history[-1].get("stage")]
