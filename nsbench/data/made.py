"""How a set that nsbench wrote to disk is told from a downloaded one: a small file beside its class folders.

The file says how the images were made and whether all of them are there. It travels with a copy or an archive of the
folder, so figures from made and from official images never share a column unseen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from nsbench.data.trees import Tree
from nsbench.errors import DataError

MARKER = "nsbench-made.json"
OFFICIAL_SIDE = 224  # pixels of the ready-made sets


@dataclass(frozen=True)
class Marker:
    """What the file says."""

    origin: str  # "generated-jpeg" or "generated-png"
    complete: bool
    made_at: int | None  # pixels; None: the official 224, or not stated
    content: Mapping[str, object]  # all of it: also how the images were made


def marker_of(tree: Tree) -> Marker | None:
    """What the marker of a set says; None for a set that was not made by nsbench.

    Raises DataError for a set whose making was stopped before its end.
    """
    if MARKER not in (file.name for file in tree.files()):
        return None
    marker = parse_marker(tree.text(MARKER), str(tree.place(MARKER)))
    if not marker.complete:
        raise DataError(f"{tree.place()}: was not finished; run the same 'nsbench data make' again, and it goes on")
    return marker


def parse_marker(text: str, where: str) -> Marker:
    """The marker in a file's text. Raises DataError where it is damaged."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and isinstance(content.get("origin"), str):
        side = content.get("crop")
        return Marker(content["origin"], bool(content.get("complete")), _side(side), content)
    raise DataError(f"{where}: is damaged; remove this set's folder and make it again")


def _side(stated: object) -> int | None:
    return stated if isinstance(stated, int) and stated > 0 and stated != OFFICIAL_SIDE else None
