"""A few pictures of every condition, kept beside its result so that the report can show them: clean, attacked, change.

The file (`parts.samples_path`) holds `samples.json` and small WebP files. Which images are kept is decided by their
ids alone: of those that the model has right, and of those that it has wrong, the first by the digest of the id. So
methods keep the same images wherever they can, and neither batches nor order matter. The runner stores it before the
result's JSON; a result that came from elsewhere may have none.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nsbench.errors import ResultError
from nsbench.results.parts import samples_path
from nsbench.results.record import Result

FORMAT = 1
EACH = 4  # pictures of each kind, right and wrong, of one condition
CONDITIONS = 15  # a suite with more conditions keeps one of each kind of this many, evenly among them
SIDE = 96  # px: larger images are reduced
MAGNIFIED = 10  # how much the change is enlarged in its picture; grey is no change
BROKEN = (  # what zipfile and json raise for damaged files
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, LookupError, TypeError),
    *(AttributeError, OverflowError, NotImplementedError, RuntimeError, MemoryError),
)
LARGEST = 64 * 1024  # bytes of one picture that is still shown


@dataclass(frozen=True)
class Sample:
    """One image of one condition. Pictures are WebP files; `adversarial` and `change` only where it was attacked."""

    id: str
    label: int
    prediction: int
    clean: bytes
    adversarial: bytes | None = None
    change: bytes | None = None  # attacked minus clean, MAGNIFIED, around grey
    linf: float | None = None  # norms of the change, [0, 1] pixel units
    l2: float | None = None

    @property
    def right(self) -> bool:
        return self.prediction == self.label


@dataclass
class Sampler:
    """Takes the pictures of one condition while it is evaluated."""

    each: int = EACH
    _kept: dict[bool, dict[str, Sample]] = field(default_factory=lambda: {True: {}, False: {}})

    def offer(
        self,
        ids: Sequence[str] | np.ndarray,
        labels: np.ndarray,
        predictions: np.ndarray,
        clean_BCHW: Any,
        adversarial_BCHW: Any = None,
        norms: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Images of one batch, arrays or tensors in [0, 1]. `norms`: "linf", "l2" of the change of attacked images."""
        for index in self.chosen(ids, np.asarray(predictions == labels)):
            clean = _array(clean_BCHW[index])
            one = Sample(str(ids[index]), int(labels[index]), int(predictions[index]), thumbnail(clean))
            if adversarial_BCHW is not None:
                adversarial = _array(adversarial_BCHW[index])
                change = np.clip(0.5 + MAGNIFIED * (adversarial - clean), 0, 1)
                found = {name: round(float(values[index]), 6) for name, values in (norms or {}).items()}
                one = Sample(
                    one.id,
                    one.label,
                    one.prediction,
                    one.clean,
                    thumbnail(adversarial),
                    thumbnail(change, photograph=False),
                    found.get("linf"),
                    found.get("l2"),
                )
            self._kept[one.right][one.id] = one

    def chosen(self, ids: Sequence[str] | np.ndarray, right: np.ndarray) -> list[int]:
        """Positions of those that belong among the kept ones, which others leave for them."""
        found = []
        for kind, kept in self._kept.items():
            offered = {str(ids[k]): k for k in np.flatnonzero(right == kind).tolist()}
            first = sorted({*kept, *offered}, key=place)[: self.each]
            self._kept[kind] = {one: kept[one] for one in first if one not in offered}
            found += [offered[one] for one in first if one in offered]
        return found

    def take_over(self, others: Iterable[Sequence[Sample]]) -> None:
        """What other processes kept of other images of the condition."""
        for one in (sample for samples in others for sample in samples):
            self._kept[one.right][one.id] = one
        for kind, kept in self._kept.items():
            self._kept[kind] = {name: kept[name] for name in sorted(kept, key=place)[: self.each]}

    @property
    def samples(self) -> list[Sample]:
        """In the order of the ids' digests, the wrong ones first."""
        return [self._kept[kind][one] for kind in (False, True) for one in sorted(self._kept[kind], key=place)]


def _array(image: Any) -> np.ndarray:
    return image.detach().cpu().float().numpy() if hasattr(image, "detach") else np.asarray(image, dtype=np.float32)


def place(image_id: str) -> bytes:
    """What images are ordered by."""
    return hashlib.sha256(image_id.encode("utf-8", "replace")).digest()


def pictures_of(names: Sequence[str]) -> dict[str, int]:
    """By condition of a suite that keeps pictures: how many of each kind, right and wrong."""
    if len(names) <= CONDITIONS:
        return dict.fromkeys(names, EACH)
    step = len(names) / CONDITIONS
    return {names[int((k + 0.5) * step)]: 1 for k in range(CONDITIONS)}


def thumbnail(image_CHW: np.ndarray, photograph: bool = True) -> bytes:
    """WebP of an image in [0, 1], at most SIDE px on its longer side; what is no photograph keeps its exact pixels."""
    from PIL import Image

    pixels = (np.clip(np.asarray(image_CHW, dtype=np.float64), 0, 1) * 255).round().astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if max(picture.size) > SIDE:
        ratio = SIDE / max(picture.size)
        size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
        picture = picture.resize(size, Image.Resampling.BOX if photograph else Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=85, method=4, lossless=not photograph)
    return stream.getvalue()


# --- files ----------------------------------------------------------------------------------------------------------


def pack_samples(identity: str, samples: Mapping[str, Sequence[Sample]], class_names: Sequence[str] = ()) -> bytes:
    """The file of what was sampled, by condition, of the result of this identity."""
    files: dict[str, bytes] = {}
    conditions = {}
    used: set[int] = set()
    for index, (name, taken) in enumerate(samples.items()):
        conditions[name] = [_entry(one, f"{index}.{k}", files) for k, one in enumerate(taken)]
        used |= {label for one in taken for label in (one.label, one.prediction)}
    record = {
        "format": FORMAT,
        "identity": identity,
        "conditions": conditions,
        "class_names": {str(k): class_names[k] for k in sorted(used) if k < len(class_names)},
    }
    files["samples.json"] = json.dumps(record, indent=1, ensure_ascii=False).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name])
    return stream.getvalue()


_PICTURES = ("clean", "adversarial", "change")


def _entry(sample: Sample, stem: str, files: dict[str, bytes]) -> dict[str, Any]:
    plain = {key: value for key, value in asdict(sample).items() if key not in _PICTURES and value is not None}
    for what in _PICTURES:
        if (content := getattr(sample, what)) is not None:
            files[f"{stem}.{what}.webp"] = content
            plain[what] = f"{stem}.{what}.webp"
    return plain


@dataclass(frozen=True)
class Kept:
    """What is kept beside one result."""

    samples: Mapping[str, Sequence[Sample]]  # by condition
    class_names: Mapping[int, str]


NOTHING = Kept({}, {})


def read_samples(result: Result) -> Kept:
    """What is kept beside a result; NOTHING where there is no file, or one of another measurement.

    Raises ResultError for a file that is broken.
    """
    if result.path is None or not (path := samples_path(result)).is_file():
        return NOTHING
    try:
        with zipfile.ZipFile(path) as archive:
            record = json.loads(_bytes(archive, "samples.json", 1 << 20))
            if record["identity"] != result.identity or record["format"] != FORMAT:
                return NOTHING
            names = {int(k): str(name) for k, name in record["class_names"].items()}
            return Kept(
                {str(name): tuple(_samples(archive, entries)) for name, entries in record["conditions"].items()}, names
            )
    except BROKEN as error:
        why = (str(error).splitlines() or [""])[0][:200]
        raise ResultError(
            f"{path}: its samples cannot be read ({type(error).__name__}: {why}); delete it and run again with --force"
        ) from error


def _samples(archive: zipfile.ZipFile, entries: Iterable[Mapping[str, Any]]) -> Iterable[Sample]:
    for entry in entries:
        pictures = {what: _picture(archive, str(entry[what])) if what in entry else None for what in _PICTURES}
        if pictures["clean"] is None:
            raise ValueError("a sample has no picture")
        norms = {key: float(entry[key]) for key in ("linf", "l2") if key in entry}
        yield Sample(
            str(entry["id"]),
            int(entry["label"]),
            int(entry["prediction"]),
            pictures["clean"],
            pictures["adversarial"],
            pictures["change"],
            **norms,
        )


def _picture(archive: zipfile.ZipFile, name: str) -> bytes:
    content = _bytes(archive, name, LARGEST)
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise ValueError(f"{name} is no WebP file")
    return content


def _bytes(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    if archive.getinfo(name).file_size > most:
        raise ValueError(f"{name} has more than {most:,} bytes")
    return archive.read(name)
