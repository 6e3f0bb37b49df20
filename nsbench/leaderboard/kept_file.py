"""The file of what boards keep: a SQLite database in the user's cache, which several processes may read and write.

It holds what one state of the program has found, and is emptied by the next one that writes to it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "pyarrow", "pydantic", "scipy")  # that results are read and worked out with
DAYS = 60  # after which what no board has asked for is forgotten
PATIENCE = 2.0  # seconds that another process may hold the file
TABLES = {  # by a key, with the day when it was last asked for
    "images": "key blob primary key, day int, ids text, labels blob",
    "verdicts": "key blob primary key, day int, images blob, accuracy int, added blob",
    "flags": "key blob primary key, day int, raised text",
}
Values = Sequence[Any]  # of a row, behind its key and day


class KeptFile:
    """What is no such file, or one of another program, is an empty one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = _opened(path)

    def row(self, table: str, key: bytes) -> Values | None:
        """Raises sqlite3.Error where the file is damaged."""
        if self._open is None:
            return None
        found = self._open.execute(f"select * from {table} where key = ?", [key]).fetchone()
        return found[2:] if found else None

    def write(self, new: Mapping[str, Mapping[bytes, Values]], asked: Mapping[str, Iterable[bytes]]) -> None:
        """By table: `new` rows by key, and the keys of those that were `asked` for. All of it or nothing, which raises
        OSError or sqlite3.Error: it cannot be written, or another process holds it for long."""
        if self._open is not None:
            self._open.close()
            self._open = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write(self.path, new, asked)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # no such file, or a damaged one
            self.path.unlink()
            _write(self.path, new, asked)
        self._open = _opened(self.path)


def _opened(path: Path) -> sqlite3.Connection | None:
    """For reading; None where there is nothing to be read."""
    with suppress(sqlite3.Error):
        file = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE)
        return file if _is_ours(file) else None
    return None


def _write(path: Path, new: Mapping[str, Mapping[bytes, Values]], asked: Mapping[str, Iterable[bytes]]) -> None:
    day = int(time.time() / 86400)
    with closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as file:
        file.execute("begin immediate")
        if not _is_ours(file):
            for (table,) in file.execute("select name from sqlite_master where type = 'table'").fetchall():
                file.execute(f'drop table "{table}"')
            for statement in _statements():
                file.execute(statement)
        for table, keys in asked.items():
            file.executemany(f"update {table} set day = ? where key = ?", [(day, key) for key in keys])
        for table, rows in new.items():
            places = ", ".join("?" * (1 + TABLES[table].count(",")))
            file.executemany(
                f"insert or replace into {table} values ({places})",
                [(key, day, *values) for key, values in rows.items()],
            )
        for table in TABLES:
            file.execute(f"delete from {table} where day < ?", [day - DAYS])
        file.execute("commit")


def _is_ours(file: sqlite3.Connection) -> bool:
    """It has the tables that this program makes."""
    return [sql for (sql,) in file.execute("select sql from sqlite_master where sql is not null")] == _statements()


def _statements() -> list[str]:
    """What makes the tables, the first of which is named by the program."""
    named = [f"CREATE TABLE of_{program()} (empty int)"]
    return named + [f"CREATE TABLE {table} ({columns})" for table, columns in TABLES.items()]


@cache
def program() -> str:
    """Digest of this program: its own code, and the versions of the packages that read and work out results."""
    found = hashlib.sha256()
    for package in PACKAGES:
        found.update(f"{package} {version(package)}\n".encode())
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return found.hexdigest()
