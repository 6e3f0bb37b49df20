"""Where weights come from: the digest of a file, and the commit of one in Hugging Face's cache."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from nsbench.errors import ModelError
from nsbench.files import open_regular
from nsbench.types import Origin

BLOCK = 1 << 20  # bytes
SNAPSHOTS = "snapshots"  # folder of a repository's commits in Hugging Face's cache


def of_file(path: Path, origin: Origin) -> Origin:
    """`origin` with the file's name and digest, and the commit where the file lies in Hugging Face's cache."""
    commit = path.parent.name if path.parent.parent.name == SNAPSHOTS else ""
    return replace(origin, file=path.name, sha256=sha256_of(path), revision=origin.revision or commit)


def sha256_of(path: Path) -> str:
    """Of the bytes of a file, 64 hex digits. Raises ModelError where it cannot be read."""
    try:
        with open_regular(path) as file:
            digest = hashlib.sha256()
            while block := file.read(BLOCK):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read ({error.strerror or error})") from error
