"""The command line: commands parse, call and print; nothing else. torch is not imported before it is needed."""

from __future__ import annotations

import warnings

import click

from nsbench import __version__
from nsbench.cli.baseline import baseline
from nsbench.cli.check import check
from nsbench.cli.data import data
from nsbench.cli.ending import Commands
from nsbench.cli.export import export
from nsbench.cli.listing import list_
from nsbench.cli.nullspace_images import nullspace
from nsbench.cli.report import report, show
from nsbench.cli.run import run
from nsbench.cli.status import status
from nsbench.cli.submit import submit


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nsbench")
def main() -> None:
    """nsbench: robustness of vision transformers, measured under one and the same protocol.

    \b
    nsbench run --method ns --suite all     finetune, evaluate on the eleven suites, store
    nsbench report                          render the stored results as one HTML page
    """
    # a notice of torch to other libraries' authors, printed at every start
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")


main.add_command(baseline)
main.add_command(check)
main.add_command(data)
main.add_command(export)
main.add_command(list_)
main.add_command(nullspace)
main.add_command(report)
main.add_command(run)
main.add_command(show)
main.add_command(status)
main.add_command(submit)
