"""A results repository as a static site: a first page, a page of each board and method, a feed, a sitemap, a picture.

It needs no server, no scripts and nothing from elsewhere: links are relative, so that it works from a folder too. From the
same results every file has the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nsbench.errors import ResultError, UsageError
from nsbench.leaderboard import Leaderboard
from nsbench.report.boards import LendingFolder
from nsbench.report.page.page import views
from nsbench.report.page.rows import Limits
from nsbench.report.page.table_figures import looks
from nsbench.report.site.boards import Board, Options, read_boards
from nsbench.report.site.pages import BoardView, Site
from nsbench.report.site.writing import Written, write

__all__ = ["Made", "Options", "site_of", "write_site"]

CARDS = 20  # rows of a board, up to which its page has their cards too, and not only the pages of the methods
SENTENCES = 50  # rows, up to which each figure brings all about it in words, and the page has pictures


@dataclass(frozen=True)
class Made:
    """A written site."""

    written: Written
    boards: int
    methods: int
    problems: tuple[str, ...]  # of results


def write_site(
    root: Path,
    folder: Path,
    *,
    title: str = "nsbench",
    address: str = "",
    lending: Callable[[Path], LendingFolder | None] = lambda results: None,
    options: Options | None = None,
    detail: int | None = None,
) -> Made:
    """Write the site of a folder of results, or of a repository with several, to `folder`.

    `address`: where it will be found; without it there is no sitemap, and links of the feed are relative. `lending`: who
    lends rows to a results folder. Raises ResultError where there is no result, or the site cannot be written.
    """
    where = _address(address)
    boards, problems = read_boards(root, lending, options)
    if not boards:
        why = f"; {len(problems)} files cannot be read, the first: {problems[0]}" if problems else ""
        raise ResultError(f"--results {root}: holds no result{why}; make some with nsbench run")
    site = site_of(boards, problems, title, where, Limits.of(detail))
    written = write(folder, site.paths, site.contents())
    return Made(written, len(site.boards), len(site.methods), tuple(problems))


def site_of(
    boards: Sequence[Board],
    problems: Sequence[str],
    title: str = "nsbench",
    address: str = "",
    limits: Limits | None = None,
) -> Site:
    """The site of these boards; a method has one colour on all of them."""
    colours = looks(Leaderboard(tuple(one.table for one in boards)))
    found = []
    for one, mine in zip(boards, colours, strict=True):
        own = _of_board(len(one.table.rows), limits or Limits())
        found.append(BoardView(one, views(Leaderboard((one.table,)), own, [mine])[0]))
    return Site(title, address, found, problems)


def _of_board(rows: int, limits: Limits) -> Limits:
    """What is of single methods is on their pages, where a board has many."""
    if rows <= CARDS:
        return limits
    return replace(limits, cards=0, sentences=SENTENCES, pictures=rows <= SENTENCES)


def _address(given: str) -> str:
    """With a slash at its end. Raises UsageError where it is no address of the web."""
    if not given:
        return ""
    if not re.fullmatch(r"https?://[^\s/?#\"'<>]+(/[^\s?#\"'<>]*)?", given):
        raise UsageError(f"--site-url {given}: give a whole address, such as https://owner.github.io/results/")
    return given if given.endswith("/") else f"{given}/"
