"""Per-image outcomes as schema 1 kept them: an .npz, in which conditions on the same images share their ids and labels.

Arrays: "conditions" (names), "sets" (of each condition, the number of its image set), "set<k>.ids" (bytes, UTF-8),
"set<k>.labels", "<condition number>.predictions", "<condition number>.extra.<name>".
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from io import BytesIO
from tokenize import TokenError

import numpy as np

from nsbench.data.image_ids import canonical_ids
from nsbench.results.parquet import LARGEST
from nsbench.results.parquet_reading import Images, Known, Rows
from nsbench.results.zip_directory import check_directory
from nsbench.types import Outcomes

BROKEN = (  # what numpy and zipfile raise for damaged files
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, LookupError, TypeError),
    *(AttributeError, SyntaxError, TokenError, OverflowError, NotImplementedError, RuntimeError, MemoryError),
)
MEMBERS = 20_000
MEMBER = re.compile(r"(conditions|sets|set\d{1,4}\.(ids|labels)|\d{1,4}\.(predictions|extra\.\w{1,40}))\.npy")


def unpack(content: bytes) -> dict[str, Outcomes]:
    """By condition, in the stored order. Raises ValueError with one line for what is no such file."""
    try:
        _check_members(content)
        with np.load(BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        names = [str(name) for name in _column(arrays, "conditions", "U")]
        sets = _column(arrays, "sets", "iu")
        if len(sets) != len(names) or len(set(names)) != len(names):
            raise ValueError("conditions and their image sets differ in number")
        images = {which: _images(arrays, which) for which in set(sets.tolist())}
        return {
            name: _outcomes(arrays, index, images[which])
            for index, (name, which) in enumerate(zip(names, sets.tolist(), strict=True))
        }
    except BROKEN as error:
        line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"is no outcomes file ({kind}{line})") from error


def read_columns(content: bytes, columns: Collection[str], known: Known) -> dict[str, Rows]:
    """By condition, in the stored order: its images, shared with all files that `known` met, and these columns.

    Raises ValueError with one line for what is no such file.
    """
    rows: dict[str, Rows] = {}
    shared: dict[int, Images] = {}  # by id() of the ids: the conditions of a file share them
    for name, one in unpack(content).items():
        if id(one.ids) not in shared:
            key = hashlib.sha256("\0".join(one.ids.tolist()).encode() + one.labels.tobytes()).digest()
            shared[id(one.ids)] = known.images.setdefault(key, Images(one.ids, one.labels))
        held = {"prediction": one.predictions, **one.extra}
        rows[name] = Rows(shared[id(one.ids)], {column: held[column] for column in columns if column in held})
    return rows


def _check_members(content: bytes) -> None:
    check_directory(BytesIO(content), MEMBERS)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        members = archive.infolist()
    if odd := next((one.filename for one in members if not MEMBER.fullmatch(one.filename)), None):
        raise ValueError(f"it holds {odd[:60]!r}, which no outcomes file has")
    if (size := sum(one.file_size for one in members)) > LARGEST:
        raise ValueError(f"it would unpack to {size:,} bytes; at most {LARGEST:,} are read")


def _images(arrays: Mapping[str, np.ndarray], which: int) -> Images:
    ids, labels = _column(arrays, f"set{which}.ids", "S"), _column(arrays, f"set{which}.labels", "iu").astype(np.int64)
    if not len(ids) or len(labels) != len(ids):
        raise ValueError("its arrays have other lengths than their images")
    if 4 * ids.nbytes > LARGEST:
        raise ValueError("its ids are too long")
    decoded = np.char.decode(ids, "utf-8")
    if len(np.unique(decoded)) != len(decoded):
        raise ValueError("it names an image twice")
    return Images(canonical_ids(decoded.tolist()), labels)


def _outcomes(arrays: Mapping[str, np.ndarray], index: int, images: Images) -> Outcomes:
    prefix = f"{index}.extra."
    predictions = _column(arrays, f"{index}.predictions", "iu").astype(np.int64)
    extra = {name.removeprefix(prefix): _column(arrays, name, "iufb") for name in arrays if name.startswith(prefix)}
    if any(len(values) != len(images.ids) for values in (predictions, *extra.values())):
        raise ValueError("its arrays have other lengths than their images")
    return Outcomes(images.ids, images.labels, predictions, extra)


def _column(arrays: Mapping[str, np.ndarray], name: str, kinds: str) -> np.ndarray:
    """A one-dimensional array of these kinds of values."""
    values = arrays[name]
    if values.ndim != 1 or values.dtype.kind not in kinds:
        raise ValueError(f"{name} is of a form that no outcomes file has")
    return values
