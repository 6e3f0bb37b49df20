"""Data sets in the cache of the Hugging Face hub: datasets--owner--name/snapshots/<revision>/<file>.

The files of a snapshot are links to ../../blobs/<hash>. Tables and archives are opened through them as they are; single
pictures lead out of the set and are followed with `--follow-links`.
https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import os
from pathlib import Path

from nsbench.errors import DataError
from nsbench.files import read_regular

REPOSITORY, SNAPSHOTS = "datasets--", "snapshots"


def name_in_cache(folder: str) -> str:
    """ "datasets--owner--imagenet-r" -> "imagenet-r"; any other name as it is."""
    return folder.rpartition("--")[2] if folder.startswith(REPOSITORY) else folder


def repository(folder: Path) -> Path:
    """The repository's folder in the cache, of a snapshot in it; any other folder as it is, absolute."""
    folder = Path(os.path.abspath(folder))
    return folder.parent.parent if folder.parent.name == SNAPSHOTS else folder


def snapshot(folder: Path) -> Path:
    """The files of a repository's folder in the cache; any other folder as it is.

    The revision is the one that "main" stands for, or the only one. Raises DataError where several are here.
    """
    revisions = folder / SNAPSHOTS
    if not (os.path.isdir(revisions) and os.path.isdir(folder / "blobs")):
        return folder
    try:
        main = read_regular(folder / "refs" / "main").decode().strip()
    except (OSError, ValueError):
        main = ""
    here = sorted(name for name in os.listdir(revisions) if os.path.isdir(revisions / name))
    if main in here:
        return revisions / main
    if len(here) == 1:
        return revisions / here[0]
    raise DataError(
        f"{revisions}: holds {len(here)} revisions ({', '.join(here[:3])}) and refs/main names none of them; give the "
        "folder of one, or download the data set again"
    )
