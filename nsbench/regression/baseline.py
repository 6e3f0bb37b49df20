"""The baseline file: JSON for git, one line an entry, outcomes as packed bits; read back with every promise checked.

Sets of images, definitions of suites and facts of models, which entries share, are stored once. Bits and ids are
packed by LZMA and in base 85: twelve suites of 500 images with ImageNet's file names stay under 100 kB.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from nsbench.errors import ResultError
from nsbench.files import read_regular, write_atomically, writing
from nsbench.regression.entry import Definition, Entry, Images, ModelFacts, RunFacts, most_of_an_image
from nsbench.regression.noise import Noise, Together
from nsbench.regression.sound import check_sound
from nsbench.types import Setting

SCHEMA = 2
BROKEN = (  # what json, base64, lzma and numpy raise for damaged content
    *(ValueError, LookupError, TypeError, AttributeError, OverflowError, lzma.LZMAError, EOFError, RecursionError),
    *(MemoryError,),
)
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 20, "lc": 4, "lp": 0, "pb": 0}]  # for text
LARGEST = 1 << 26  # bytes that one packed field may unpack to: a million images with long names
Option = Setting | Mapping[str, str]  # as `nsbench run` was given it


@dataclass(frozen=True)
class Reference:
    """The reference workload in the run that gave the figures: speed and memory are compared as ratios to it."""

    seconds: float  # of one pass
    memory_mib: float  # of the process after it


@dataclass(frozen=True)
class Baseline:
    """What a new run is compared with."""

    entries: tuple[Entry, ...]
    options: Mapping[str, Option] = field(default_factory=dict)  # of `nsbench run` that move figures, as given
    needs: tuple[str, ...] = ()  # options that were given and belong to the machine: data, checkpoint
    repeats: int = 0  # same-code repeats behind the noise
    moved: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # method -> (images flipped, images) of these
    together: Mapping[str, Together] = field(default_factory=dict)  # method -> of its accuracies, in these
    reference: Reference | None = None
    recorded: str = ""  # date
    commit: str | None = None
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)  # of Python and of the libraries

    @property
    def clusters(self) -> dict[str, Together]:
        """`together`, or what is known of it: files of schema 1 hold only how many images flipped in any suite."""
        return {
            method: self.together.get(method) or self._roughly(method, at) for method, (at, _) in self.moved.items()
        }

    def _roughly(self, method: str, images: int) -> Together:
        """As if each of the images that flipped had flipped in equally many accuracies."""
        mine = [e for e in self.entries if e.method == method and e.definition.is_accuracy]
        flips = sum(e.noise.flipped for e in mine)
        return Together(flips, flips**2 / max(min(images, flips), 1), most_of_an_image(mine))


# --- the file's own records: what stands in it, in this order -------------------------------------------------------


@dataclass(frozen=True)
class _Images:
    n: int
    ids: str  # packed
    labels: str  # packed


@dataclass(frozen=True)
class _Item:
    source: str
    model: str
    method: str
    suite: str
    seed: int
    score: float
    definition: int  # position in the file's definitions, and so on
    images: int
    noise: Noise
    model_facts: int
    facts: RunFacts
    outcomes: str  # packed


@dataclass(frozen=True)
class _File:
    schema: int
    recorded: str
    commit: str | None
    command: str
    versions: dict[str, str]
    options: dict[str, Option]
    needs: tuple[str, ...]
    repeats: int
    moved: dict[str, tuple[int, int]]
    together: dict[str, Together]
    reference: Reference | None
    images: tuple[_Images, ...]
    definitions: tuple[Definition, ...]
    models: tuple[ModelFacts, ...]
    entries: tuple[_Item, ...]
    sha256: str


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Store a baseline, whole or not at all. Raises ResultError where the file cannot be written."""
    images: dict[str, None] = {}
    definitions: dict[str, None] = {}
    models: dict[str, None] = {}
    entries = [_item(entry, images, definitions, models) for entry in baseline.entries]
    head = {
        "schema": SCHEMA,
        "recorded": baseline.recorded,
        "commit": baseline.commit,
        "command": baseline.command,
        "versions": dict(baseline.versions),
        "options": dict(baseline.options),
        "needs": baseline.needs,
        "repeats": baseline.repeats,
        "moved": dict(baseline.moved),
        "together": {method: asdict(one) for method, one in baseline.together.items()},
        "reference": asdict(baseline.reference) if baseline.reference else None,
    }
    tables = {"images": list(images), "definitions": list(definitions), "models": list(models), "entries": entries}
    blocks = [f"{json.dumps(key)}: {_line(value)}" for key, value in head.items()]
    blocks += [f"{json.dumps(key)}: [\n {(',' + chr(10) + ' ').join(lines)}\n]" for key, lines in tables.items()]
    content = ("{\n" + ",\n".join(blocks)).encode()
    content += f',\n"sha256": "{hashlib.sha256(content).hexdigest()}"\n}}\n'.encode()
    with writing(path, ResultError, "choose another --out", what="cannot write the baseline"):
        write_atomically(path, content)


def _item(entry: Entry, images: dict[str, None], definitions: dict[str, None], models: dict[str, None]) -> str:
    """The line of an entry; what it shares with others goes into the tables."""
    item = _Item(
        entry.source,
        entry.model,
        entry.method,
        entry.suite,
        entry.seed,
        entry.score,
        _shared(definitions, _line(asdict(entry.definition))),
        _shared(images, json.dumps(asdict(_pack_images(entry.images)))),
        entry.noise,
        _shared(models, _line(asdict(entry.model_facts))),
        entry.run_facts,
        _pack(np.packbits(entry.right_CN).tobytes()),
    )
    return _line(asdict(item))


def read_baseline(path: Path) -> Baseline:
    """A stored baseline. Raises ResultError, naming the file, where it is absent, cut short, altered or too new."""
    try:
        content = read_regular(path).replace(b"\r\n", b"\n")  # as version control may have it on Windows
        record = json.loads(content)
        schema = record["schema"]
        if schema > SCHEMA:
            raise ResultError(f"{path}: schema {schema} is newer than this nsbench knows; update nsbench")
        if schema not in (SCHEMA, *UPGRADES):
            known = ", ".join(map(str, (*UPGRADES, SCHEMA)))
            raise ResultError(f"{path}: schema {schema!r} is none that nsbench ever wrote ({known}); record it anew")
        return _baseline(content, _upgraded(record))
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be read ({error.strerror}); record one: nsbench baseline record "
            f"--method NAME,NAME --suite all --limit 100 --out {path}"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
    except BROKEN as error:
        what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    raise ResultError(f"{path}: is no whole baseline ({what}); take it from version control again, or record it anew")


def _upgraded(record: dict[str, Any]) -> dict[str, Any]:
    while record["schema"] != SCHEMA:
        record = UPGRADES[record["schema"]](record)
    return record


def _with_directions(record: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 did not hold how many flips of a repeat were lost, and how they lie together; see Noise and clusters."""
    return record | {"schema": 2, "together": {}}


UPGRADES = {1: _with_directions}  # from this schema to the next


def _baseline(content: bytes, record: dict[str, Any]) -> Baseline:
    """From a file's bytes, which must have its digest, and its record in the present schema."""
    file = _adapter().validate_json(json.dumps(record))
    body, mark, _ = content.rpartition(b',\n"sha256"')
    if not mark or hashlib.sha256(body).hexdigest() != file.sha256:
        raise ValueError("its content differs from its digest")
    if not file.entries:
        raise ValueError("it holds no suite")
    images = [_unpack_images(packed) for packed in file.images]
    if any(min(item.definition, item.images, item.model_facts) < 0 for item in file.entries):
        raise ValueError("an entry refers to nothing")
    entries = tuple(
        _entry(item, file.definitions[item.definition], images[item.images], file.models[item.model_facts])
        for item in file.entries
    )
    for entry in entries:
        check_sound(entry)
    return Baseline(
        entries,
        file.options,
        file.needs,
        file.repeats,
        file.moved,
        file.together,
        file.reference,
        file.recorded,
        file.commit,
        file.command,
        file.versions,
    )


def _entry(item: _Item, definition: Definition, images: Images, model_facts: ModelFacts) -> Entry:
    shape = len(definition.conditions), len(images.ids)
    bits = np.frombuffer(_unpack(item.outcomes), dtype=np.uint8)
    if len(bits) != (shape[0] * shape[1] + 7) // 8 or len(definition.weights) != shape[0]:
        raise ValueError(f"{item.suite}: outcomes and images differ in number")
    right = np.unpackbits(bits, count=shape[0] * shape[1]).astype(bool).reshape(shape)
    return Entry(
        item.source,
        item.model,
        item.method,
        item.suite,
        item.seed,
        item.score,
        definition,
        images,
        right,
        model_facts,
        item.facts,
        item.noise,
    )


@cache
def _adapter() -> TypeAdapter[_File]:
    return TypeAdapter(_File)


def _pack_images(images: Images) -> _Images:
    return _Images(
        len(images.ids),
        _pack("\n".join(map(json.dumps, images.ids.tolist())).encode()),
        _pack(images.labels.astype("<i4").tobytes()),
    )


def _unpack_images(packed: _Images) -> Images:
    names = [json.loads(line) for line in _unpack(packed.ids).decode().split("\n")]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("an id of an image is no text")
    ids = np.array(names, dtype=np.str_)
    labels = np.frombuffer(_unpack(packed.labels), dtype="<i4").astype(np.int64)
    if not len(ids) == len(labels) == packed.n:
        raise ValueError("a set of images has other ids than labels")
    return Images(ids, labels)


def _pack(content: bytes) -> str:
    return base64.b85encode(lzma.compress(content, check=lzma.CHECK_CRC32, filters=FILTERS)).decode()


def _unpack(text: str) -> bytes:
    decompressor = lzma.LZMADecompressor()
    content = decompressor.decompress(base64.b85decode(text), LARGEST)
    if not decompressor.eof:
        raise ValueError("a packed field is cut short or far too large")
    return content


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)


def _shared(table: dict[str, None], line: str) -> int:
    """Position of a line in a table that holds each line once."""
    table.setdefault(line)
    return list(table).index(line)
