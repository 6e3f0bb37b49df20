"""Results for tests of the report, and a parser of the page made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path

import made
import numpy as np

from nsbench.results import ConditionResult, NoiseOfRound, Result, Round, write_result
from nsbench.statistics import accuracy
from nsbench.statistics.corruption_error import mean_corruption_error
from nsbench.types import Outcomes, Score, ThreatModel

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}'
QUICK = made.recipe(epsilon=0.03)
Measured = tuple[str, ThreatModel | None, Outcomes]  # split, threat, outcomes


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str, cls: str | None = None) -> list[dict[str, str | None]]:
        return [
            attrs
            for name, attrs in self.tags
            if name == tag and (cls is None or cls in (attrs.get("class") or "").split())
        ]


def outcomes(right: int, n: int = 100, **extra: object) -> Outcomes:
    """The first `right` images are."""
    labels = np.zeros(n, dtype=np.int64)
    predictions = (np.arange(n) >= right).astype(np.int64)
    ids = np.array([f"i{i:03d}" for i in range(n)])
    return Outcomes(ids, labels, predictions, {name: np.asarray(values) for name, values in extra.items()})


def linf(k: float) -> ThreatModel:
    """Of k/255."""
    return ThreatModel("linf", k / 255)


def one_round(k: int, norm: float | None = None, converged: bool | None = None, **losses: float) -> Round:
    """A round of a training; with a `norm` one that trained with noise."""
    noise = None if norm is None else NoiseOfRound(norm, 0.03, 0.02, converged=converged)
    return Round(k, 20 * k, 1e-4, losses, noise)


def stored(
    folder: Path,
    method: str = "ns",
    suite: str = "clean",
    right: int = 80,
    *,
    conditions: Mapping[str, Measured] | None = None,
    score: Callable[[Mapping[str, Outcomes]], Score] = accuracy,
    title: str | None = None,
    **changes: object,
) -> Result:
    """Write a result as the runner does; `changes`: fields of the result and of its provenance."""
    conditions = conditions or {suite: (suite, None, outcomes(right))}
    measured = {name: one for name, (_, _, one) in conditions.items()}
    mce = score is mean_corruption_error
    plain: dict[str, object] = {
        "unit": "mCE" if mce else "%",
        "lower_is_better": mce,
        "title": title or suite.title(),
        "group": {"clean": "clean", "fgsm": "adversarial"}.get(suite, "ood"),
        "summary": f"The protocol of {suite}.",
        "citation": "Somebody 2025",
        "method_title": title or method.upper(),
        "method_summary": f"What {method} does.",
        "identity": f"{method}{suite}",
        "conditions": tuple(_condition(name, *one) for name, one in conditions.items()),
        "weights_digest": f"weights-{method}",
        "parent_digest": "p",
        "recipe": None if method == "pretrained" else QUICK,
        "command": f"nsbench run --method {method} --suite {suite}",
        "date": "2025-01-01",
        "preprocessing": "crop 48",
        "fit_seconds": None,
        "seconds": None,
        "peak_memory_mib": None,
    }
    result = made.result(method=method, suite=suite, score=score(measured), **(plain | changes))
    return write_result(folder, result, measured)


def _condition(name: str, split: str, threat: ThreatModel | None, one: Outcomes) -> ConditionResult:
    attack = "fgsm" if threat else None
    return made.condition(name, one, split=split, data_digest=split, attack=attack, threat=threat)
