"""Where the work of `nsbench run` is done: in this process, in one process for each GPU, or as tasks of a Ray cluster."""

from __future__ import annotations

from functools import partial

from nsbench.errors import UsageError
from nsbench.progress import Progress
from nsbench.run.job import RunOptions
from nsbench.run.runner import Summary

LOCAL = "local"


def run(options: RunOptions, progress: Progress) -> Summary:
    """Do everything that was asked for and is possible, where `options.engine` says."""
    if options.engine == LOCAL:
        _refuse_of_clusters(options)
        from nsbench.run.runner import run as run_here

        return run_here(options, progress)
    from nsbench.run.engines.cluster import Cluster
    from nsbench.run.engines.driver import run_with
    from nsbench.run.engines.worker import perform

    if options.log:
        raise UsageError(f"--log {options.log}: goes with --engine {LOCAL}; rounds are in the weights' CSV in any case")
    return run_with(partial(Cluster, options, perform=perform), options, progress)


def _refuse_of_clusters(options: RunOptions) -> None:
    """Raises UsageError for options that only tasks of a cluster have."""
    for name in ("shard_images", "task_cpus", "task_gpus", "task_memory"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: goes with --engine ray")
