"""The boards of a results repository: of each results folder below its root every table that `nsbench report` shows."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nsbench.errors import ResultError
from nsbench.leaderboard import Kept, Table, build
from nsbench.report.boards import LendingFolder, lender_of
from nsbench.report.papers import table_names
from nsbench.report.site.names import file_name
from nsbench.results import Result, read_result
from nsbench.results.parts import folder_of

OWN_FOLDER = "results"  # a results folder of this name is called by the folder that holds it
RECORD = re.compile(r".+\.seed\d+(\.[0-9a-f]+)?\.json")  # names of stored results; a repository holds other JSON, too


@dataclass(frozen=True)
class Board:
    """One table with what its page is called."""

    name: str  # its folder, source and limit
    file: str  # name of its page, without ending
    table: Table
    problems: Sequence[str]  # of its folder: files that cannot be read, or are not what their outcomes give

    @property
    def title(self) -> str:
        """With the model."""
        return f"{self.name} · {self.table.model}"

    @property
    def date(self) -> str:
        """Of the newest result."""
        return max((result.provenance.date for result in self.table.results), default="")[:10]


@dataclass(frozen=True)
class Options:
    """What the tables are made with: the options of `report.read_board`."""

    reference: str | None = None
    partial: bool = False


def read_boards(
    root: Path, lending: Callable[[Path], LendingFolder | None] = lambda folder: None, options: Options | None = None
) -> tuple[list[Board], list[str]]:
    """The boards in the order of their folders, and all problems. `lending`: who lends rows to a results folder."""
    chosen, taken = options or Options(), set[str]()
    by_folder, unread = _read(root)
    boards: list[Board] = []
    problems: dict[str, None] = dict.fromkeys(unread)
    for folder, results in by_folder.items():
        mine = [line for line in unread if line.startswith(f"{folder}{os.sep}")]
        lender, wrong = lender_of(lending(folder), results)
        found = build(
            results,
            [*mine, *wrong],
            reference=chosen.reference,
            partial=chosen.partial,
            lender=lender,
            kept=Kept.of_user(),
        )
        problems |= dict.fromkeys(found.problems)
        place = _place(root, folder)
        for table, own in zip(found.tables, table_names(found.tables), strict=True):
            words = list(dict.fromkeys(filter(None, (place, own))))
            file = file_name("-".join(words).replace("/", "-"), taken)
            boards.append(Board(" · ".join(words), file, table, found.problems))
    return boards, list(problems)


def _read(root: Path) -> tuple[dict[Path, list[Result]], list[str]]:
    """The results of each results folder, in the order of their files, and a line for each file that is none."""
    found: dict[Path, list[Result]] = defaultdict(list)
    problems = []
    for path in _records(root):
        try:
            result = read_result(path)
        except ResultError as error:
            problems.append(str(error))
        else:
            found[_results_folder(root, path, result)].append(result)
    return dict(sorted(found.items())), problems


def _records(root: Path) -> list[Path]:
    """Files that are called like results; what is hidden, such as a repository's .git, is not looked into."""
    found = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [Path(folder, name) for name in names if RECORD.fullmatch(name)]
    return sorted(found)


def _results_folder(root: Path, path: Path, result: Result) -> Path:
    """What holds <source>/<model>/<method> of the result, inside the root; names of models may have a slash."""
    for place in (
        folder_of(result.source, result.model, result.method),
        f"{result.source}/{result.model}/{result.method}",
    ):
        parts = Path(place).parts
        if path.parent.parts[-len(parts) :] == parts:
            folder = path.parents[len(parts)]
            return folder if folder.is_relative_to(root) else root
    return path.parent


def _place(root: Path, folder: Path) -> str:
    """The way from the root, "" for the root itself."""
    parts = folder.relative_to(root).parts
    return "/".join(parts[:-1] if parts and parts[-1] == OWN_FOLDER else parts)
