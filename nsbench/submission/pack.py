"""Packing: only what would pass the reader, byte for byte reproducible."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nsbench import __version__
from nsbench.errors import ResultError, UsageError
from nsbench.files import write_atomically, writing
from nsbench.results import Result, outcomes_content, read_results
from nsbench.submission.archive import FORMAT, MANIFEST, Limits, member_folder, read_archive
from nsbench.submission.schema import submitted_result
from nsbench.submission.values import outcomes_of

DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold


@dataclass(frozen=True)
class Packed:
    path: Path
    digest: str  # SHA-256 of the manifest
    results: int
    size: int  # bytes


def pack(results_dir: Path, out: Path, methods: Sequence[str] = ()) -> Packed:
    """Archive the results below a folder, those of `methods` where any are named.

    Raises ResultError for a result that is broken, whose outcomes differ from their digest, or that no check would let
    through whatever its figures are; UsageError for a method without results or a folder without any.
    """
    found, problems = read_results(results_dir)
    if problems:
        raise ResultError(problems[0])
    for method in methods:
        if method not in {result.method for result in found}:
            known = ", ".join(sorted({result.method for result in found})) or "none"
            raise UsageError(f"{results_dir}: has no results of method '{method}'; it has: {known}")
    chosen = [result for result in found if not methods or result.method in methods]
    if not chosen:
        raise UsageError(
            f"{results_dir}: holds no results; run something first: nsbench run --method METHOD --suite all"
        )
    files: dict[str, bytes] = {}
    for result in chosen:
        _add(files, result)
    content, digest = archive_of(files)
    read_archive(out, io.BytesIO(content))
    with writing(out, ResultError, "choose another place with --out", what="the archive cannot be written"):
        write_atomically(out, content)
    return Packed(out, digest, len(chosen), len(content))


def archive_of(files: dict[str, bytes]) -> tuple[bytes, str]:
    """The archive with its manifest, and its digest."""
    listed = {
        name: {"bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()} for name in sorted(files)
    }
    manifest = (json.dumps({"format": FORMAT, "nsbench": __version__, "files": listed}, indent=1) + "\n").encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [(MANIFEST, manifest), *sorted(files.items())]:
            info = zipfile.ZipInfo(name, DATE)
            info.create_system, info.external_attr = 3, 0o100644 << 16  # a plain file, the same on every system
            archive.writestr(info, content)
    return buffer.getvalue(), hashlib.sha256(manifest).hexdigest()


def _add(files: dict[str, bytes], result: Result) -> None:
    """The two files of a result under the names that its own words give them. Raises ResultError."""
    assert result.path is not None
    outcomes = outcomes_content(result)
    try:
        record = result.path.read_bytes()
    except OSError as error:
        raise ResultError(f"{error.filename}: cannot be read ({error.strerror})") from error
    stem = f"{member_folder(result.source, result.model, result.method)}/{result.path.stem}"
    if f"{stem}.json" in files:  # of a model whose name differs in what is no letter
        stem = f"{stem.removesuffix(f'.{result.identity}')}.{result.identity}"
    name = f"{stem}.json"
    if files.get(name, record) != record:
        raise ResultError(f"{result.path}: is the same measurement as another result here; move one of them away")
    form, problems = submitted_result(name, record)
    try:
        if form is not None and not problems:
            outcomes_of(form, outcomes, Limits())
    except ResultError as error:
        problems = [str(error)]
    if problems:
        raise ResultError(
            f"{result.path}: cannot be submitted: {problems[0]}; correct it and run again, or move it away"
        )
    files |= {name: record, f"{stem}.{result.outcomes_format}": outcomes}
