"""What earlier boards found out about results, kept in the user's cache, so that a large board is not worked out anew.

Kept of a result whose figures its outcomes give is what each image adds to its score, and of a row its health flags.
Both are functions of the results' files and of the program, and are known by the digests of these: an edited file or
another release finds them anew. Each outcomes file is still compared with its digest; what is saved is to decode it and
to work out. Where the cache cannot be read or written, nothing is saved, and nothing else differs.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import suppress
from dataclasses import asdict

import numpy as np

from nsbench.errors import ResultError, UsageError
from nsbench.files import cache_folder
from nsbench.leaderboard.extras import row_flags
from nsbench.leaderboard.kept_file import TABLES, KeptFile, Values
from nsbench.leaderboard.outcomes import NOT_MADE_OF, ImageSet, PerImage, Reader
from nsbench.leaderboard.records import Row, RowFlag
from nsbench.leaderboard.verify import ROUNDED, problem
from nsbench.results import Result
from nsbench.results.store import outcomes_content

TOGETHER = 250  # verdicts that are written at once
BROKEN = (sqlite3.Error, OSError, ValueError, TypeError, LookupError, AttributeError)  # what a damaged file leads to


class Kept:
    """Serves one board. Without a file it recalls and keeps nothing."""

    def __init__(self, file: KeptFile | None = None) -> None:
        self._file = file
        self._new: dict[str, dict[bytes, Values]] = {table: {} for table in TABLES}  # by key
        self._asked: dict[str, set[bytes]] = {table: set() for table in TABLES}
        self._images_there: set[bytes] = set()  # keys of sets that the file has, or gets

    @classmethod
    def of_user(cls) -> Kept:
        """In the user's cache folder; where there is none, nowhere."""
        try:
            return cls(KeptFile(cache_folder() / "boards" / "verdicts.sqlite"))
        except UsageError:
            return cls()

    def problem(self, result: Result, reader: Reader) -> str:
        """See `verify.problem`. What is recalled is handed to the reader, as if it had been worked out."""
        if self._file is None or not result.file_sha256:
            return problem(result, reader)
        key = bytes.fromhex(result.file_sha256)
        with suppress(ResultError, *BROKEN):
            if row := self._row("verdicts", key):
                one = self._per_image(row, reader)
                if _may_be(one, result):
                    outcomes_content(result)
                    reader.take(result, one)
                    return ""
        why = problem(result, reader)
        if not why:
            self._note(key, reader.per_image(result))
        if len(self._new["verdicts"]) >= TOGETHER:
            self.save()
        return why

    def flags(self, row: Row, reader: Reader) -> tuple[RowFlag, ...]:
        """See `extras.row_flags`; of a row whose results have no problem."""
        digests = [result.file_sha256 for result in row.results]
        if self._file is None or not all(digests):
            return row_flags(row, reader)
        key = hashlib.sha256(" ".join(digests).encode()).digest()
        with suppress(*BROKEN):
            if found := self._row("flags", key):
                return tuple(RowFlag(**one | {"suites": tuple(one["suites"])}) for one in json.loads(found[0]))
        raised = row_flags(row, reader)
        self._new["flags"][key] = [json.dumps([asdict(one) for one in raised])]
        return raised

    def save(self) -> None:
        """For the boards to come, where that can be done."""
        if self._file is not None and any(self._new.values()):
            with suppress(sqlite3.Error, OSError):
                self._file.write(self._new, self._asked)
            self._new, self._asked = {table: {} for table in TABLES}, {table: set() for table in TABLES}

    def _row(self, table: str, key: bytes) -> Values | None:
        assert self._file is not None
        found = self._file.row(table, key)
        if found is not None:
            self._asked[table].add(key)
        return found

    def _per_image(self, row: Values, reader: Reader) -> PerImage | str:
        key, accuracy, added = row
        if key is None:
            return NOT_MADE_OF
        images = reader.held(key) or self._images(key, reader)
        if accuracy:
            right = np.unpackbits(np.frombuffer(added, np.uint8), count=len(images.ids))
            return PerImage(images, right * np.float32(100), True)
        return PerImage(images, np.frombuffer(added, np.float32), False)

    def _images(self, key: bytes, reader: Reader) -> ImageSet:
        found = self._row("images", key)
        if found is None:
            raise LookupError("images are not there")
        self._images_there.add(key)
        ids, labels = found
        return reader.shared(np.array(ids.split("\0")), np.frombuffer(labels, np.int64))

    def _note(self, key: bytes, one: PerImage | str) -> None:
        if isinstance(one, str):
            self._new["verdicts"][key] = None, None, None
            return
        images = one.images
        if images.key not in self._images_there:
            self._images_there.add(images.key)
            self._new["images"][images.key] = "\0".join(images.ids.tolist()), images.labels.tobytes()
        added = np.packbits(one.values > 50) if one.accuracy else one.values
        self._new["verdicts"][key] = images.key, int(one.accuracy), added.tobytes()


def _may_be(one: PerImage | str, result: Result) -> bool:
    """Its mean is the score that the result states, as far as single precision tells."""
    if isinstance(one, str):
        return result.score.made_of is None
    mean = float(one.values.mean(dtype=np.float64))
    return len(one.values) == len(one.images.ids) and abs(mean - result.score.value) <= ROUNDED
