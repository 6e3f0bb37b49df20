"""Figures of merit with their 95 % intervals, and paired comparisons, from per-image outcomes."""

from nsbench.statistics.accuracy import (
    ALEXNET_ERROR,
    L2_BUDGETS,
    MCE_WEIGHTS,
    SEVERITIES,
    accuracy,
    average,
    percent,
    wilson,
)
from nsbench.statistics.intervals import (
    RESAMPLES,
    bootstrap_mean,
    mean_interval,
    no_smaller_than_signs,
    paired_pvalues,
    percentile_interval,
    resampled_sums,
)
from nsbench.statistics.paired import (
    Holm,
    difference_interval,
    discordant,
    holm,
    hommel,
    mcnemar_exact,
    mcnemar_of_counts,
    paired_difference,
)
from nsbench.statistics.ranks import cliques, friedman, nemenyi_difference, rank_ranges, separable_neighbours
from nsbench.statistics.trainings import Trained

__all__ = [
    "ALEXNET_ERROR",
    "L2_BUDGETS",
    "MCE_WEIGHTS",
    "RESAMPLES",
    "SEVERITIES",
    "Holm",
    "Trained",
    "accuracy",
    "average",
    "bootstrap_mean",
    "cliques",
    "difference_interval",
    "discordant",
    "friedman",
    "holm",
    "hommel",
    "mcnemar_exact",
    "mcnemar_of_counts",
    "mean_interval",
    "nemenyi_difference",
    "no_smaller_than_signs",
    "paired_difference",
    "paired_pvalues",
    "percent",
    "percentile_interval",
    "rank_ranges",
    "resampled_sums",
    "separable_neighbours",
    "wilson",
]
