"""Results against a stored baseline: did robustness get worse? `compare` makes the verdicts, `evidence` their statistics.

`record` and `Measurement` run models and import torch when they are asked for; the rest starts without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsbench.regression.baseline import Baseline, Reference, read_baseline, write_baseline
from nsbench.regression.compare import check_results
from nsbench.regression.entry import Entry
from nsbench.regression.records import BaselineCheck, Rules, SuiteCheck, Verdict

if TYPE_CHECKING:
    from nsbench.regression.measure import Measurement, record

__all__ = [
    "Baseline",
    "BaselineCheck",
    "Entry",
    "Measurement",
    "Reference",
    "Rules",
    "SuiteCheck",
    "Verdict",
    "check_results",
    "read_baseline",
    "record",
    "write_baseline",
]


def __getattr__(name: str) -> object:
    if name in ("Measurement", "record"):
        from nsbench.regression import measure

        return getattr(measure, name)
    raise AttributeError(f"module 'nsbench.regression' has no attribute '{name}'")
