"""The list of members at a zip's end, held against a bound before `zipfile` makes an object of each of them.

Python's objects take ten times the bytes of the list, and a list of a hundred megabytes may lie in a file of one.
"""

from __future__ import annotations

import os
import struct
import zipfile
from typing import BinaryIO

END = struct.Struct("<4s4H2LH")  # the end record: signature, disks, members, bytes and place of the list, comment
LOCATOR = 20  # bytes before the end record that lead to one of 64 bits
ENTRY = 1 << 10  # bytes of a member in the list that are still read


def check_directory(file: BinaryIO, most: int) -> None:
    """Raises BadZipFile for more than `most` members, and for bytes before the first one or behind the end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - END.size - LOCATOR))
    tail = file.read()
    if not tail[-END.size :].startswith(b"PK\5\6"):
        raise zipfile.BadZipFile("it does not end as a zip without a comment does; are there bytes behind its end?")
    _, _, _, _, members, length, start, comment = END.unpack(tail[-END.size :])
    if tail[: -END.size].startswith(b"PK\6\7") or members > most or length > most * ENTRY:
        raise zipfile.BadZipFile(f"it lists more than {most:,} members")
    if comment or start + length + END.size != size:
        raise zipfile.BadZipFile("there are bytes before its first member or behind its last one")
    file.seek(start)
    if file.read(length).count(b"PK\1\2") > most:
        raise zipfile.BadZipFile(f"it lists more than {most:,} members")
    file.seek(0)
