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
from pathlib import Path
from typing import Any

import numpy as np

from nsbench.errors import ResultError
from nsbench.files import write_atomically
from nsbench.regression.entry import Entry, Images
from nsbench.regression.evidence import Noise

SCHEMA = 1
OF_A_RUN = ("date", "seconds", "fit_seconds", "peak_memory_mib")  # facts that differ from suite to suite
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 20, "lc": 4, "lp": 0, "pb": 0}]  # for text
LARGEST = 1 << 26  # bytes that one packed field may unpack to: a million images with long names


@dataclass(frozen=True)
class Reference:
    """The reference workload in the run that gave the figures: speed and memory are compared as ratios to it."""

    seconds: float  # of one pass
    memory_mib: float  # of the process after it


@dataclass(frozen=True)
class Baseline:
    """What a new run is compared with."""

    entries: tuple[Entry, ...]
    options: Mapping[str, Any] = field(default_factory=dict)  # of `nsbench run` that move figures, as they were given
    needs: tuple[str, ...] = ()  # options that were given and belong to the machine: data, checkpoint
    repeats: int = 0  # same-code repeats behind the noise
    moved: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # method -> (images flipped, images) of these
    reference: Reference | None = None
    recorded: str = ""  # date
    commit: str | None = None
    command: str = ""


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Store a baseline, whole or not at all. Raises ResultError where the file cannot be written."""
    sets: dict[str, None] = {}
    suites: dict[str, None] = {}
    models: dict[str, None] = {}
    entries = []
    for entry in baseline.entries:
        image_set = _shared(sets, json.dumps(_pack_images(entry.images)))
        suite = _shared(
            suites,
            _line(
                {
                    "title": entry.title,
                    "unit": entry.unit,
                    "lower_is_better": entry.lower_is_better,
                    "measured": entry.measured,
                    "weights": entry.weights,
                    "rewards": entry.rewards,
                    "conditions": entry.conditions,
                }
            ),
        )
        entries.append(
            _line(
                {
                    "source": entry.source,
                    "model": entry.model,
                    "method": entry.method,
                    "suite": entry.suite,
                    "seed": entry.seed,
                    "score": entry.score,
                    "definition": suite,
                    "images": image_set,
                    "noise": asdict(entry.noise),
                    "model_facts": _shared(models, _line(_facts(entry, own=False))),
                    "facts": _facts(entry, own=True),
                    "outcomes": _pack(np.packbits(entry.right_CN).tobytes()),
                }
            )
        )
    head = {
        "schema": SCHEMA,
        "recorded": baseline.recorded,
        "commit": baseline.commit,
        "command": baseline.command,
        "versions": next((dict(e.facts.get("versions") or {}) for e in baseline.entries), {}),
        "options": dict(baseline.options),
        "needs": baseline.needs,
        "repeats": baseline.repeats,
        "moved": dict(baseline.moved),
        "reference": asdict(baseline.reference) if baseline.reference else None,
    }
    tables = {"images": list(sets), "definitions": list(suites), "models": list(models), "entries": entries}
    blocks = [f"{json.dumps(key)}: {_line(value)}" for key, value in head.items()]
    blocks += [f"{json.dumps(key)}: [\n {(',' + chr(10) + ' ').join(lines)}\n]" for key, lines in tables.items()]
    content = ("{\n" + ",\n".join(blocks)).encode()
    content += f',\n"sha256": "{hashlib.sha256(content).hexdigest()}"\n}}\n'.encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise ResultError(
            f"{path}: cannot write the baseline ({error.strerror or error}); choose another --out"
        ) from error


def read_baseline(path: Path) -> Baseline:
    """A stored baseline. Raises ResultError, naming the file, where it is absent, cut short, altered or too new."""
    try:
        content = path.read_bytes().replace(b"\r\n", b"\n")  # as version control may have it on Windows
        record = json.loads(content)
        if record["schema"] > SCHEMA:
            raise ResultError(f"{path}: schema {record['schema']} is newer than this nsbench knows; update nsbench")
        body, found, _ = content.rpartition(b',\n"sha256"')
        if not found or hashlib.sha256(body).hexdigest() != record["sha256"]:
            raise ValueError("its content differs from its digest")
        return _baseline(record)
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be read ({error.strerror}); record one: nsbench baseline record "
            f"--method all --suite all --limit 100 --out {path}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, lzma.LZMAError) as error:
        raise ResultError(
            f"{path}: is no whole baseline ({type(error).__name__}: {error}); take it from version "
            "control again, or record it anew"
        ) from error


def _baseline(record: dict[str, Any]) -> Baseline:
    sets = [_unpack_images(packed) for packed in record["images"]]
    entries = tuple(
        _entry(
            item,
            record["definitions"][item["definition"]],
            sets[item["images"]],
            record["models"][item["model_facts"]] | {"versions": record["versions"]},
        )
        for item in record["entries"]
    )
    if not entries:
        raise ValueError("it holds no suite")
    reference = Reference(**record["reference"]) if record["reference"] else None
    moved = {method: (int(flipped), int(n)) for method, (flipped, n) in record["moved"].items()}
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in record["options"].items()}
    return Baseline(
        entries,
        options,
        tuple(record["needs"]),
        int(record["repeats"]),
        moved,
        reference,
        record["recorded"],
        record["commit"],
        record["command"],
    )


def _entry(item: dict[str, Any], definition: dict[str, Any], images: Images, shared: dict[str, Any]) -> Entry:
    shape = len(definition["conditions"]), len(images.ids)
    bits = np.frombuffer(_unpack(item["outcomes"]), dtype=np.uint8)
    if len(bits) != (shape[0] * shape[1] + 7) // 8 or len(definition["weights"]) != shape[0]:
        raise ValueError(f"{item['suite']}: outcomes and images differ in number")
    right = np.unpackbits(bits, count=shape[0] * shape[1]).astype(bool).reshape(shape)
    return Entry(
        item["source"],
        item["model"],
        item["method"],
        item["suite"],
        item["seed"],
        definition["title"],
        definition["unit"],
        definition["lower_is_better"],
        float(item["score"]),
        definition["measured"],
        tuple(definition["weights"]),
        definition["rewards"],
        tuple(definition["conditions"]),
        images,
        right,
        shared | item["facts"],
        Noise(**item["noise"]),
    )


def _facts(entry: Entry, *, own: bool) -> dict[str, Any]:
    """Facts of this suite's run, or those that all suites of a fitted model share."""
    return {key: value for key, value in entry.facts.items() if key != "versions" and (key in OF_A_RUN) == own}


def _pack_images(images: Images) -> dict[str, Any]:
    return {
        "n": len(images.ids),
        "ids": _pack("\n".join(map(json.dumps, images.ids.tolist())).encode()),
        "labels": _pack(images.labels.astype("<i4").tobytes()),
    }


def _unpack_images(packed: dict[str, Any]) -> Images:
    ids = np.array([json.loads(line) for line in _unpack(packed["ids"]).decode().split("\n")], dtype=np.str_)
    labels = np.frombuffer(_unpack(packed["labels"]), dtype="<i4").astype(np.int64)
    if not len(ids) == len(labels) == packed["n"]:
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


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)


def _shared(table: dict[str, None], line: str) -> int:
    """Position of a line in a table that holds each line once."""
    table.setdefault(line)
    return list(table).index(line)
