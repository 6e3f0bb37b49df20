"""Names of files made of strangers' names: safe on every system and in every address, one for each name."""

from __future__ import annotations

import hashlib
import re

PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")


def file_name(name: str, taken: set[str]) -> str:
    """The name itself where it is plain, else what is plain of it with a digest of the whole; added to `taken`.

    It does not depend on the other names, unless somebody else's name is that very file name already.
    """
    stem = name if PLAIN.fullmatch(name) else _with_digest(name)
    found, number = stem, 1
    while found in taken:
        number += 1
        found = f"{stem}-{number}"
    taken.add(found)
    return found


def _with_digest(name: str) -> str:
    plain = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:48]
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{plain}-{digest}" if plain else digest
