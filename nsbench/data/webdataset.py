"""WebDataset shards: tar files whose members share a key, <key>.jpg with <key>.cls or <key>.json.

The .cls is a label from 0 to 999 in sorted-wnid order, or a wnid; a .json gives it as "label", "cls" or "wnid". Shards
are read in place and in their own order, so that disks read forwards.
https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from nsbench.data.archive_index import MEMBER, cached_array, index_of, member_at, members
from nsbench.data.archives import ArchiveSplit, open_archive, read_member
from nsbench.data.image_ids import IMAGE_SUFFIXES
from nsbench.data.source import digest_of
from nsbench.data.stored import file_stamp
from nsbench.data.trees import hidden
from nsbench.data.wnids import label_of
from nsbench.errors import DataError

SIDECARS = (".cls", ".json")
LOOK = 64  # members, without hidden ones, by which a shard is recognised
TABLE_VERSION = 4
ROW = [("label", "<i2"), ("bare", "?"), ("shard", "<u4"), *MEMBER]  # of the table of all pictures, after their names


def is_shard(path: Path) -> bool:
    """Whether the tar holds pictures with their labels beside them."""
    if path.suffix.lower() != ".tar":
        return False
    decoded = (name.decode("utf-8", errors="replace") for name in open_archive(path).names)
    names = list(islice((name for name in decoded if not _is_hidden(name)), LOOK))
    pictures = {key for key, ending in map(_key, names) if ending.endswith(IMAGE_SUFFIXES)}
    return any(key in pictures and ending in SIDECARS for key, ending in map(_key, names))


def open_shards(name: str, shards: Sequence[Path]) -> ArchiveSplit:
    """One split of all shards. Raises DataError for a picture without a label and a label that is no class."""
    if not shards:
        raise DataError(f"'{name}': no shard was found; expected tar files with <key>.jpg and <key>.cls")
    key = digest_of("shards", TABLE_VERSION, *((shard.resolve(), file_stamp(shard)) for shard in shards))
    table = cached_array("shards", key, lambda: _table(shards))
    names = np.char.decode(np.asarray(table["name"]), "utf-8", "replace")
    if len(np.unique(names)) < len(names):  # keys that start again in every shard
        stems = np.array([shard.stem for shard in shards])[table["shard"]]
        names = np.char.add(np.char.add(stems, "/"), names)
    split = ArchiveSplit(
        name,
        shards,
        np.array(table["shard"]),
        members(table, np.arange(len(table))),
        names,
        table["label"].astype(np.int64),
        table["size"].astype(np.int64),
    )
    split.bare_numbers = bool(table["bare"].all())
    return split


def _table(shards: Sequence[Path]) -> np.ndarray:
    parts = [_shard(number, shard) for number, shard in enumerate(shards)]
    width = max(part.dtype["name"].itemsize for part in parts)
    kind = [("name", f"S{width}"), *ROW]
    return np.concatenate([part.astype(kind) for part in parts])


def _shard(number: int, path: Path) -> np.ndarray:
    """(name, label, shard, member) of every picture of one shard, in the order in which they lie there."""
    index = index_of(path)
    pictures, labels = {}, {}
    for at, raw in enumerate(index["name"]):
        name = raw.decode("utf-8", errors="replace")
        key, ending = _key(name)
        if _is_hidden(name):
            continue
        if ending.endswith(IMAGE_SUFFIXES):
            if key in pictures:
                raise DataError(f"{path}: the key '{key}' has two pictures; keep one a key")
            pictures[key] = at
        elif ending == ".cls" or (ending == ".json" and key not in labels):
            labels[key] = at
    rows = np.empty(len(pictures), dtype=[("name", index.dtype["name"]), *ROW])
    for row, (key, at) in enumerate(pictures.items()):
        if key not in labels:
            raise DataError(f"{path}: the picture '{key}' has neither {key}.cls nor {key}.json; complete the shard")
        beside = index["name"][labels[key]].decode("utf-8", errors="replace")
        text = read_member(path, member_at(index, labels[key]), beside).decode("utf-8", errors="replace")
        rows[row] = (index["name"][at], *_label(text, beside, path), number, *member_at(index, at))
    if not len(rows):
        raise DataError(f"{path}: holds no picture; expected <key>.jpg with <key>.cls")
    return rows[np.argsort(rows["offset"])]


def _is_hidden(name: str) -> bool:
    return hidden(name.rsplit("/", 1)[-1])


def _key(name: str) -> tuple[str, str]:
    """WebDataset's rule: the key ends at the first dot of the file name."""
    folder, slash, file = name.rpartition("/")
    stem, dot, ending = file.partition(".")
    return folder + slash + stem, (dot + ending).lower()


def _label(text: str, name: str, path: Path) -> tuple[int, bool]:
    """The class of a .cls or .json text, and whether it is a bare number."""
    value: object = text.strip()
    if name.lower().endswith(".json"):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}/{name}: is no JSON ({error}); complete the shard") from error
        fields = fields if isinstance(fields, dict) else {}
        value = next((fields[key] for key in ("label", "cls", "wnid") if key in fields), "")
    given = str(value)
    number = given.lstrip("0") or given[:1]
    if given in label_of():
        return label_of()[given], False
    if not number.isdecimal() or len(number) > 3:
        raise DataError(f"{path}/{name}: '{given[:40]}' is neither a label from 0 to 999 nor a wnid; correct it")
    return int(number), True
