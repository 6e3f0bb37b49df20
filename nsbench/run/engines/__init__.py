"""Where the work of `nsbench run` is done: in this process, in one for each GPU, as tasks of Ray, or as jobs of SLURM.

torch is imported where work is done, and not by what only travels between processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from nsbench import processes
from nsbench.errors import UsageError
from nsbench.progress import Progress
from nsbench.run.engines.pool import Pool, visible_gpus
from nsbench.run.engines.work import Files, Sent

if TYPE_CHECKING:
    from nsbench.run.engines.slurm_settings import SlurmSettings
    from nsbench.run.options import RunOptions
    from nsbench.run.runner import Summary

LOCAL, SLURM = "local", "slurm"


def run(options: RunOptions, progress: Progress) -> Summary:
    """Do everything that was asked for and is possible, where `options.engine` says."""
    settings = require_possible(options)
    if options.engine == LOCAL:
        if gpus := _several_gpus(options):
            return run_in_processes(options, progress, gpus)
        from nsbench.run.runner import run as run_here

        return run_here(options, progress)
    from nsbench.run.engines.driver import run_with
    from nsbench.run.engines.worker import perform

    if settings is not None:
        from nsbench.run.engines.slurm import Slurm

        return run_with(partial(Slurm, options, settings, perform=perform), options, progress)
    from nsbench.run.engines.cluster import Cluster

    return run_with(partial(Cluster, options, perform=perform), options, progress)


def require_possible(options: RunOptions) -> SlurmSettings | None:
    """What jobs of SLURM ask for, where the engine is that. Raises UsageError for options that do not go with it."""
    if options.engine != SLURM:
        for key, value in options.slurm.items():
            raise UsageError(f"--slurm {key}={value}: goes with --engine {SLURM}")
    if options.engine == LOCAL:
        for name in ("shard_images", "task_cpus", "task_gpus", "task_memory"):
            if getattr(options, name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} {getattr(options, name)}: goes with --engine ray or --engine slurm"
                )
        return None
    _refuse_log(options, f"--engine {options.engine}")
    if options.engine != SLURM:
        return None
    if options.device.startswith("cuda:"):
        raise UsageError(f"--device {options.device}: a job has GPUs of its own; give auto, cuda or cpu")
    from nsbench.run.engines.slurm_settings import slurm_settings

    return slurm_settings(options)


def _refuse_log(options: RunOptions, where: str) -> None:
    if options.log:
        raise UsageError(f"--log {options.log}: does not go with {where}; the rounds are in the CSV beside the weights")


def _several_gpus(options: RunOptions) -> list[str]:
    """Those to use where the machine has several, and this process is not one of several that share one work."""
    if options.device != "auto" or processes.count() > 1:
        return []
    import torch

    count = torch.cuda.device_count()
    return visible_gpus(count) if count > 1 else []


def run_in_processes(options: RunOptions, progress: Progress, gpus: Sequence[str | None]) -> Summary:
    """As `run`, with a process for each of the `gpus`, by name; None: one that takes the CPU."""
    from nsbench.run.engines.driver import run_with
    from nsbench.run.engines.worker import perform

    _refuse_log(options, "several GPUs; give one with --device cuda:0")

    def start(sent: Sent, files: Callable[[str], Files], progress: Progress) -> Pool:
        return Pool(gpus, perform, sent, files, progress)

    return run_with(start, options, progress)
