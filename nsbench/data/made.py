"""How a set that nsbench wrote to disk is told from a downloaded one: a small file beside its class folders.

The file says how the images were made and whether all of them are there. It travels with a copy or an archive of the
folder, so figures from made and from official images never share a column unseen.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nsbench.errors import DataError

if TYPE_CHECKING:
    from nsbench.data.trees import Tree

MARKER = "nsbench-made.json"


def origin_of(tree: Tree) -> str:
    """ "official", or what the marker says: "generated-jpeg" or "generated-png".

    Raises DataError for a set whose making was stopped before its end.
    """
    if MARKER not in (file.name for file in tree.files()):
        return "official"
    made = parse(tree.text(MARKER), str(tree.place(MARKER)))
    if not made.get("complete"):
        raise DataError(f"{tree.place()}: was not finished; run the same 'nsbench data make' again, and it goes on")
    return str(made["origin"])


def parse(text: str, where: str) -> dict[str, Any]:
    """The marker's content. Raises DataError where it is damaged."""
    try:
        made = json.loads(text)
    except ValueError:
        made = None
    if isinstance(made, dict) and isinstance(made.get("origin"), str):
        return made
    raise DataError(f"{where}: is damaged; remove this set's folder and make it again")
