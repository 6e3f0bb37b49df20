"""Results as the runner writes them, with made-up outcomes, and a parser of the page made of them."""

from html.parser import HTMLParser

import numpy as np

from nsbench.results import Result, write_result
from nsbench.statistics import accuracy
from nsbench.statistics.corruption_error import mean_corruption_error
from nsbench.types import Outcomes

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}'


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag, cls=None):
        return [
            attrs
            for name, attrs in self.tags
            if name == tag and (cls is None or cls in (attrs.get("class") or "").split())
        ]


def outcomes(right, n=100, **extra):
    labels = np.zeros(n, dtype=np.int64)
    predictions = (np.arange(n) >= right).astype(np.int64)
    return Outcomes(
        np.array([f"i{i:03d}" for i in range(n)]),
        labels,
        predictions,
        {name: np.asarray(values) for name, values in extra.items()},
    )


def stored(
    folder,
    method="ns",
    suite="clean",
    right=80,
    *,
    source="shapes10",
    model="vit_shapes10",
    conditions=None,
    score=accuracy,
    title=None,
    history=(),
    **provenance,
):
    """Write a result as the runner does. `conditions`: name -> (split, threat, outcomes)."""
    conditions = conditions or {suite: (suite, None, outcomes(right))}
    described = [
        {
            "name": name,
            "split": split,
            "attack": "fgsm" if threat else None,
            "params": {},
            "threat": threat,
            "preprocess": "checkpoint",
            "n": len(one),
            "origin": "embedded",
            "data_digest": split,
            "accuracy": 100 * float(one.correct.mean()),
        }
        for name, (split, threat, one) in conditions.items()
    ]
    measured = {name: one for name, (_, _, one) in conditions.items()}
    mce = score is mean_corruption_error
    own = {
        "weights_digest": f"weights-{method}",
        "parent_digest": "p",
        "normalisation": "own",
        "limit": None,
        "recipe": {"name": "quick", "epsilon": 0.03},
        "command": f"nsbench run --method {method} --suite {suite}",
        "date": "2025-01-01",
        "history": list(history),
        "method_version": 1,
        "preprocessing": "crop 48",
        "versions": {"torch": "2.15"},
        "nsbench": "0.1.0",
        "commit": None,
        "device": "CPU",
    } | provenance
    result = Result(
        source=source,
        model=model,
        method=method,
        suite=suite,
        seed=0,
        score=score(measured),
        unit="mCE" if mce else "%",
        lower_is_better=mce,
        title=title or suite.title(),
        group={"clean": "clean", "fgsm": "adversarial"}.get(suite, "ood"),
        order=1,
        paper=True,
        suite_version=1,
        summary=f"The protocol of {suite}.",
        citation="Somebody 2025",
        method_title=title or method.upper(),
        method_summary=f"What {method} does.",
        method_order=1,
        conditions=described,
        provenance=own,
        identity=f"{method}{suite}",
    )
    return write_result(folder, result, measured)
