"""The processes of one run: `torchrun` starts several of them, and they share the work of a training and an evaluation.

Without torchrun there is one process, and everything here gives back what it was given. torch is imported where several
processes meet, and not before.
"""

from nsbench.processes.group import count, is_quiet, joined, local_count, number, own_device, share
from nsbench.processes.meeting import add_up, agree, first, gathered, gathered_rows, is_known, section, totals

__all__ = [
    "add_up",
    "agree",
    "count",
    "first",
    "gathered",
    "gathered_rows",
    "is_known",
    "is_quiet",
    "joined",
    "local_count",
    "number",
    "own_device",
    "section",
    "share",
    "totals",
]
