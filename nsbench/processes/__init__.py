"""The processes of one run: `torchrun` starts several of them, and they share the work of a training and an evaluation.

Without torchrun there is one process, and everything here gives back what it was given. torch is imported where several
processes meet, and not before.
"""

from nsbench.processes.group import cores, count, is_quiet, joined, number, own_device, share, take_cores
from nsbench.processes.meeting import add_up, agree, first, gathered, gathered_rows, is_known, section, totals

__all__ = [
    "add_up",
    "agree",
    "cores",
    "count",
    "first",
    "gathered",
    "gathered_rows",
    "is_known",
    "is_quiet",
    "joined",
    "number",
    "own_device",
    "section",
    "share",
    "take_cores",
    "totals",
]
