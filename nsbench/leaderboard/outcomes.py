"""What each image adds to a figure, from the stored per-image outcomes, as fast as a thousand methods ask for.

A figure that is a mean over images (accuracy, mCE, mean error) is found again as the mean of one number per image;
that it equals the stored score is the proof, so no suite needs to be known here.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nsbench.errors import ResultError
from nsbench.health import common_places
from nsbench.results import Result
from nsbench.statistics import MCE_WEIGHTS
from nsbench.types import Outcomes

TOLERANCE = 1e-6  # of a percentage point: rounding of sums in another order
HELD = 64  # files of one row, and some more, that are held open at a time
HEALTH_EXTRA = ("predictions_clean", "linf")  # what the health flags look at beside predictions
LARGEST = 1 << 30  # bytes of one array: more than any data set needs, less than a machine has


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in one order. Results on the same images share one object."""

    ids: np.ndarray  # (n,) bytes, sorted
    labels: np.ndarray  # (n,)


@dataclass(frozen=True, eq=False)
class PerImage:
    """One result, image by image: `values.mean()` is the score, in its unit."""

    images: ImageSet
    values: np.ndarray  # (n,) float32, in the order of `images`
    accuracy: bool  # every value is 0 or 100


@dataclass
class Reader:
    """Reads outcomes once and keeps what each image adds; sets of images are kept once for all results."""

    _sets: dict[bytes, ImageSet] = field(default_factory=dict)
    _orders: dict[tuple[bytes, bytes], tuple[ImageSet, np.ndarray]] = field(default_factory=dict)
    _read: dict[int, PerImage | str] = field(default_factory=dict)
    _ids: dict[bytes, np.ndarray] = field(default_factory=dict)  # equal ids in one order are one array
    _common: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # by id() in _ids
    _open: OrderedDict[int, OutcomeArrays] = field(default_factory=OrderedDict)  # the last HELD files

    def per_image(self, result: Result) -> PerImage | str:
        """What each image adds to the score, or why that cannot be said. Cached."""
        key = id(result)
        if key not in self._read:
            try:
                self._read[key] = self._per_image(result)
            except ResultError as error:
                self._read[key] = str(error)
            except (IndexError, TypeError, ValueError) as error:
                self._read[key] = f"{result.path}: its outcomes are malformed ({error})"
        return self._read[key]

    def outcomes(self, result: Result, names: Sequence[str]) -> dict[str, Outcomes]:
        """Of these conditions, in the stored order, with ids as bytes and no more extras than HEALTH_EXTRA.

        Raises ResultError. While a row is read, every file of it is opened once.
        """
        arrays = self._arrays(result)
        places = {str(condition["name"]): index for index, condition in enumerate(result.conditions)}
        try:
            return {name: self._outcomes(arrays, places[name]) for name in names}
        except (IndexError, TypeError, ValueError) as error:
            raise ResultError(f"{result.path}: its outcomes are malformed ({error})") from error

    def common(self, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in two arrays of ids, both from `outcomes`, of the images that both hold. Cached."""
        key = id(one), id(other)
        if key not in self._common:
            self._common[key] = common_places(one, other)
        return self._common[key]

    def _outcomes(self, arrays: OutcomeArrays, index: int) -> Outcomes:
        which = f"set{int(arrays.get('sets')[index])}"
        ids = arrays.get(f"{which}.ids")
        found = Outcomes(
            self._ids.setdefault(ids.tobytes(), ids),
            arrays.get(f"{which}.labels"),
            arrays.get(f"{index}.predictions"),
            {
                name: arrays.get(f"{index}.extra.{name}")
                for name in HEALTH_EXTRA
                if f"{index}.extra.{name}" in arrays.members
            },
        )
        if any(len(one) != len(ids) for one in (found.labels, found.predictions, *found.extra.values())):
            raise ResultError(f"{arrays.path}: its outcomes have other lengths than their images")
        return found

    def _arrays(self, result: Result) -> OutcomeArrays:
        if id(result) not in self._open:
            self._open[id(result)] = OutcomeArrays(result)
            if len(self._open) > HELD:
                self._open.popitem(last=False)
        return self._open[id(result)]

    def _per_image(self, result: Result) -> PerImage:
        arrays = self._arrays(result)
        names = [str(condition["name"]) for condition in result.conditions]
        for weights, rewards in _formulas(names):
            images, values = self._weighted(arrays, weights, rewards)
            if len(values) == result.score.n and abs(float(values.mean()) - result.score.value) <= TOLERANCE:
                return PerImage(images, values.astype(np.float32), rewards and len(weights) == 1)
        raise ResultError("the score is not a mean over images")

    def _weighted(
        self,
        arrays: OutcomeArrays,
        weights: Mapping[int, float],
        rewards: bool,
    ) -> tuple[ImageSet, np.ndarray]:
        """Sum over conditions of weight x (right or wrong) of each image."""
        totals: dict[str, np.ndarray] = {}  # by set of images, in its stored order
        for index, weight in weights.items():
            which = f"set{int(arrays.get('sets')[index])}"
            labels = arrays.get(f"{which}.labels")
            right = arrays.get(f"{index}.predictions") == labels
            if right.shape != labels.shape:
                raise ResultError("its outcomes have other lengths than their images")
            part = weight * (right if rewards else ~right)
            totals[which] = totals[which] + part if which in totals else part
        sets = {which: self._sorted(arrays, which) for which in totals}
        if len({id(images) for images, _ in sets.values()}) > 1:
            raise ResultError("its conditions are on different images")
        if not totals or not len(next(iter(totals.values()))):
            raise ResultError("no image was evaluated")
        (images, _), *_ = sets.values()
        return images, sum(totals[which][order] for which, (_, order) in sets.items())

    def _sorted(self, arrays: OutcomeArrays, which: str) -> tuple[ImageSet, np.ndarray]:
        """A set of images, and the order that sorts its ids as stored."""
        ids, labels = arrays.get(f"{which}.ids"), arrays.get(f"{which}.labels")
        key = (ids.tobytes(), labels.astype(np.int64).tobytes())
        if key not in self._orders:
            if ids.shape != labels.shape or len(np.unique(ids)) != len(ids):
                raise ResultError("its outcomes name an image twice or have no label for it")
            order = np.argsort(ids)
            images = ImageSet(ids[order], labels[order].astype(np.int64))
            digest = hashlib.sha256(b"\0".join(images.ids.tolist()) + images.labels.tobytes()).digest()
            self._orders[key] = self._sets.setdefault(digest, images), order
        return self._orders[key]


def _formulas(names: Sequence[str]) -> list[tuple[dict[int, float], bool]]:
    """Weights of conditions, by position, and whether they are for right predictions; the likeliest first."""
    position = {name: index for index, name in enumerate(names)}
    corrupted = [index for index, name in enumerate(names) if name != "clean"]
    formulas = [({0: 100.0}, True)]
    if all(name in position for name in MCE_WEIGHTS):
        formulas.insert(0, ({position[name]: weight for name, weight in MCE_WEIGHTS.items()}, False))
    elif len(corrupted) > 1:
        formulas.append((dict.fromkeys(corrupted, 100 / len(corrupted)), False))
        formulas.append((dict.fromkeys(range(len(names)), 100 / len(names)), True))
    return formulas


class OutcomeArrays:
    """Arrays of an outcomes file whose digest is right. Only what is asked for is unpacked.

    np.load spends 0.1 ms on every array; a table of a thousand methods holds a hundred thousand of them.
    """

    def __init__(self, result: Result) -> None:
        if result.path is None:
            raise ResultError("no per-image outcomes are stored")
        self.path = result.path.with_suffix(".npz")
        try:
            self.content = self.path.read_bytes()
            if hashlib.sha256(self.content).hexdigest() != result.outcomes_sha256:
                raise ResultError(f"{self.path}: differs from the digest in its result; it was changed or half copied")
            self.members = _members(self.content)
        except OSError as error:
            raise ResultError(f"{self.path}: the per-image outcomes cannot be read ({error.strerror})") from error
        except (zipfile.BadZipFile, struct.error, UnicodeDecodeError) as error:
            raise ResultError(f"{self.path}: is no outcomes file ({error})") from error
        self._kept: dict[str, np.ndarray] = {}

    def get(self, name: str) -> np.ndarray:
        if name not in self._kept:
            try:
                self._kept[name] = _array(self._unpacked(self.members[name]))
            except (KeyError, ValueError, IndexError, struct.error, zlib.error) as error:
                raise ResultError(f"{self.path}: is no outcomes file ({type(error).__name__}: {error})") from error
        return self._kept[name]

    def _unpacked(self, member: _Member) -> bytes:
        start = member.offset + 30  # the local header: 30 bytes, then a name and an extra field
        start += sum(struct.unpack_from("<HH", self.content, start - 4))
        packed = self.content[start : start + member.packed]
        if member.size > LARGEST:
            raise ValueError(f"an array of {member.size} bytes")
        if member.method == zipfile.ZIP_STORED:
            return packed
        plain = zlib.decompressobj(-15).decompress(packed, member.size + 1)
        if len(plain) != member.size or zlib.crc32(plain) != member.crc:
            raise ValueError("an array is damaged")
        return plain


class _Member(NamedTuple):
    method: int
    crc: int
    packed: int  # bytes
    size: int  # bytes, unpacked
    offset: int  # of the local header


def _members(content: bytes) -> dict[str, _Member]:
    """Arrays of a zip by name, from its central directory (PKWARE's APPNOTE 4.3.12 and 4.3.16).

    zipfile takes 10 us for each of them. What it alone can read (a comment, more than 4 GB) is left to it.
    """
    if content[-22:-18] != b"PK\5\6":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {
                info.filename.removesuffix(".npy"): _Member(
                    info.compress_type, info.CRC, info.compress_size, info.file_size, info.header_offset
                )
                for info in archive.infolist()
            }
    count, _, place = struct.unpack_from("<HII", content, len(content) - 12)
    found = {}
    for _ in range(count):
        magic, method, crc, packed, size, name, extra, comment, offset = _ENTRY.unpack_from(content, place)
        if magic != b"PK\1\2":
            raise zipfile.BadZipFile("its directory is damaged")
        word = content[place + 46 : place + 46 + name].decode("utf-8").removesuffix(".npy")
        found[word] = _Member(method, crc, packed, size, offset)
        place += 46 + name + extra + comment
    return found


_ENTRY = struct.Struct("<4s6xH4xIIIHHH8xI")  # what is read of an entry of 46 bytes


def _array(content: bytes) -> np.ndarray:
    """An .npy file of format 1.0, as numpy.save writes it."""
    start = 10 + int.from_bytes(content[8:10], "little")
    dtype, shape = _header(content[:start])
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


@lru_cache(maxsize=4096)
def _header(content: bytes) -> tuple[np.dtype, tuple[int, ...]]:
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array of an unknown format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or (fortran and len(shape) > 1):
        raise ValueError("an array of an unknown format")
    return dtype, shape
