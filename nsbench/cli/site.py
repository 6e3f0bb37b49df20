"""`nsbench report --site`: its options, and what it prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from nsbench.cli.board import lending_of
from nsbench.errors import UsageError, without_controls

NOT_OF_A_SITE = {  # options of report by the names of their arguments
    "studies": "--study",
    "out": "--out",
    "formats": "--format",
    "columns": "--columns",
    "interval": "--interval",
    "deviation": "--deviation",
    "compare": "--compare",
}


@dataclass(frozen=True)
class SiteOptions:
    folder: Path | None = None  # None: no site is asked for
    title: str = "nsbench"
    address: str = ""


def site_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with `site`, a SiteOptions, in place of the options that it is made of."""

    @click.option(
        "--site",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Write a static site instead: a first page, a page of each board and method, a feed. --results may then be "
        "a folder that holds several results folders.",
    )
    @click.option(
        "--site-url",
        default="",
        metavar="ADDRESS",
        help="Of --site: where it will be found; for sitemap, feed and links.",
    )
    @click.option("--site-title", default=SiteOptions.title, show_default=True, help="Of --site.")
    @wraps(command)
    def made(*given: Any, site: Path | None, site_url: str, site_title: str, **options: Any) -> Any:
        if site is None and (site_url or site_title != SiteOptions.title):
            raise UsageError("--site-url and --site-title are of --site DIR; add it, or leave them out")
        return command(*given, site=SiteOptions(site, site_title, site_url), **options)

    return made


def refuse_beside_site(context: click.Context) -> None:
    """Raises UsageError where options were given that a site does not follow."""
    default = click.core.ParameterSource.DEFAULT
    given = [flag for name, flag in NOT_OF_A_SITE.items() if context.get_parameter_source(name) is not default]
    if given:
        raise UsageError(f"{', '.join(given)}: not of --site, which writes pages alone; leave it out, or --site")


def make_site(
    results: Path, site: SiteOptions, beside: str | None, reference: str | None, partial: bool, detail: int | None
) -> tuple[str, ...]:
    """Write the site and say what was written; returns what is wrong with files of the results."""
    from nsbench.report.site import Options, write_site

    assert site.folder is not None
    made = write_site(
        results,
        site.folder,
        title=site.title,
        address=site.address,
        lending=lambda folder: lending_of(folder, beside),
        options=Options(reference, partial),
        detail=detail,
    )
    for path in made.written.left:
        click.echo(without_controls(f"{site.folder / path}: of an earlier site, changed since; it stays"), err=True)
    removed = f", {len(made.written.removed)} of an earlier site removed" if made.written.removed else ""
    click.echo(
        f"{site.folder / 'index.html'}: {_many(made.boards, 'board')}, {_many(made.methods, 'method')}, "
        f"{len(made.written.files)} files{removed}"
    )
    if not site.address:
        click.echo("No sitemap.xml, and relative links in feed.xml: give --site-url ADDRESS for those.")
    return made.problems


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
