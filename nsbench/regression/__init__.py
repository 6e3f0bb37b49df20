"""Results against a stored baseline: did robustness get worse? `compare` is the heart, `evidence` its statistics.

`record` and `Measurement` run models and import torch when they are asked for; the rest starts without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsbench.regression.baseline import Baseline, Reference, read_baseline, write_baseline
from nsbench.regression.compare import check
from nsbench.regression.entry import Entry
from nsbench.regression.records import Check, Comparison, Rules, Verdict

if TYPE_CHECKING:
    from nsbench.regression.measure import Measurement, record

__all__ = [
    "Baseline",
    "Check",
    "Comparison",
    "Entry",
    "Measurement",
    "Reference",
    "Rules",
    "Verdict",
    "check",
    "read_baseline",
    "record",
    "write_baseline",
]


def __getattr__(name: str) -> Any:
    if name in ("Measurement", "record"):
        from nsbench.regression import measure

        return getattr(measure, name)
    raise AttributeError(f"module 'nsbench.regression' has no attribute '{name}'")
