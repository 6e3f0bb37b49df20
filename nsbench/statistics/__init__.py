"""Figures of merit with their 95 % intervals, and paired comparisons, from per-image outcomes."""

from nsbench.statistics.paired import (
    difference_interval,
    discordant,
    holm,
    mcnemar_exact,
    mcnemar_of_counts,
    paired_difference,
)
from nsbench.statistics.scores import (
    ALEXNET_ERROR,
    L2_BUDGETS,
    RESAMPLES,
    SEVERITIES,
    accuracy,
    average,
    bootstrap_mean,
    mean_corruption_error,
    percent,
    wilson,
)

__all__ = [
    "ALEXNET_ERROR", "L2_BUDGETS", "RESAMPLES", "SEVERITIES", "accuracy", "average", "bootstrap_mean",
    "difference_interval", "discordant", "holm", "mcnemar_exact", "mcnemar_of_counts", "mean_corruption_error",
    "paired_difference", "percent", "wilson",
]
