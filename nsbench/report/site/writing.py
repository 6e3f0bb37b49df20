"""Writing a site: whole files, nothing of others touched, and what an earlier site left behind removed.

A file in the folder lists what was written there, by path with the digest of the content. It is written before the pages
too, with the new ones as unfinished, so that after a stop the next run knows whose they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nsbench.errors import ResultError
from nsbench.files import alone, read_regular, write_atomically, writing

LIST = ".nsbench-site.json"
UNFINISHED = ""  # in place of a digest
OURS = re.compile(r"((boards|methods)/[a-z0-9_-]+\.(html|csv)|[a-z0-9]+\.(html|css|xml|txt|png)|\.nojekyll)")
OTHER_PLACE = "choose another folder with --site"


@dataclass(frozen=True)
class Written:
    files: tuple[str, ...]
    removed: tuple[str, ...]  # of an earlier site
    left: tuple[str, ...]  # likewise, but changed since by somebody else


def write(folder: Path, paths: Iterable[str], contents: Iterable[tuple[str, bytes]]) -> Written:
    """`paths`: of all that `contents` will hold, which is made one file after the other.

    Raises ResultError where something cannot be written, or would replace what no earlier site wrote.
    """
    planned = list(paths)
    with writing(folder, ResultError, OTHER_PLACE, what="the site cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            held = _held(folder)
            _refuse_strangers(folder, planned, held)
            _keep_list(folder, held | {path: UNFINISHED for path in planned if path not in held})
            written = {path: _written(folder, path, content) for path, content in contents}
            removed, left = _remove(folder, {path: held[path] for path in held if path not in written})
            _keep_list(folder, written | {path: held[path] for path in left})
    return Written(tuple(written), removed, left)


def _held(folder: Path) -> dict[str, str]:
    """What earlier sites wrote here. Raises ResultError where the list is none of ours."""
    path = folder / LIST
    if not path.exists():
        return {}
    try:
        files = json.loads(read_regular(path))["files"]
        found = {str(name): str(digest) for name, digest in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(f"{path}: is no list of a site's files; remove it with the site, or {OTHER_PLACE}") from error
    return {name: digest for name, digest in found.items() if OURS.fullmatch(name)}


def _refuse_strangers(folder: Path, planned: Iterable[str], held: Mapping[str, str]) -> None:
    for path in planned:
        if path not in held and (folder / path).exists():
            raise ResultError(f"{folder / path}: was not written by an earlier site; {OTHER_PLACE}, or remove it")


def _written(folder: Path, path: str, content: bytes) -> str:
    """The digest; a file that holds this already is left as it is."""
    target, digest = folder / path, hashlib.sha256(content).hexdigest()
    if _digest(target) != digest:
        write_atomically(target, content)
    return digest


def _digest(path: Path) -> str:
    """Of what lies there; "" where there is no such file."""
    return hashlib.sha256(read_regular(path)).hexdigest() if path.is_file() else ""


def _remove(folder: Path, stale: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files that are still what was written, and those that are not and stay."""
    removed, left = [], []
    for path, digest in stale.items():
        found = _digest(folder / path)
        if found and found == digest:
            (folder / path).unlink()
            removed.append(path)
        elif found:
            left.append(path)
    return tuple(removed), tuple(left)


def _keep_list(folder: Path, files: Mapping[str, str]) -> None:
    what = "what nsbench report --site wrote here; the next run replaces and removes these files, and no others"
    content = {"about": what, "files": dict(sorted(files.items()))}
    write_atomically(folder / LIST, f"{json.dumps(content, indent=1)}\n".encode())
