"""The command line: one file per group of commands. They parse, call and print; nothing else."""

from nsbench.cli.main import main

__all__ = ["main"]
