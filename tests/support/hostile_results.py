"""Readers of results, outcomes, pictures, submissions and baselines, and what strangers write into them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner
from mutations import BYTES, ODD, Draws, odd_field
from rich.console import Console

from nsbench import report
from nsbench.cli import main
from nsbench.errors import ResultError
from nsbench.leaderboard import build
from nsbench.regression import read_baseline, write_baseline
from nsbench.results import outcomes_path, read_outcomes, read_result, read_results, write_result
from nsbench.results.samples import Sampler, pack_samples, read_samples
from nsbench.run.engines.jobs import Book
from nsbench.statistics import accuracy
from nsbench.submission import check_archive, pack
from nsbench.types import Outcomes

FROZEN = Path(__file__).parents[1] / "frozen" / "schema1_first"
Figure = Any


def attacked(n: int = 40) -> dict[str, Outcomes]:
    ids, labels = np.array([f"clean/{k:05d}" for k in range(n)]), np.arange(n) % 10
    right = np.arange(n) % 3 > 0
    predicted = np.where(right, labels, (labels + 1) % 10)
    norms = np.full(n, 0.01, np.float32)
    return {"clean": Outcomes(ids, labels, predicted, {"predictions_clean": labels, "linf": norms, "l2": norms})}


def result_json(folder: Path) -> Path:
    outcomes = attacked()
    stored = made.stored(folder, outcomes, score=accuracy(outcomes))
    assert stored.path is not None
    return stored.path


def old_json(folder: Path) -> Path:
    shutil.copytree(FROZEN, folder, dirs_exist_ok=True)
    return next(folder.rglob("fgsm.seed0.json"))


def board_of(folder: Path) -> Figure:
    """The terminal and the page are drawn; the figures that stand there without a word against them."""
    lending = None
    with io.StringIO() as stream:
        report.print_tables(report.read_board(folder, lending), Console(file=stream, width=200))
    board = build(*read_results(folder))
    report.to_html(board)
    cells = [cell for table in board.tables for row in table.rows for cell in row.cells.values()]
    shown = sorted(cell.value for cell in cells if not cell.reason and cell.comparable)
    return shown if shown and not board.problems else None


def read_board(path: Path) -> Figure:
    return board_of(path.parents[3])


def outcomes_of(path: Path) -> Path:
    return next(
        one for one in path.parent.iterdir() if one.suffix in (".parquet", ".npz") and one.stem.startswith(path.stem)
    )


def parquet(folder: Path) -> Path:
    return outcomes_of(result_json(folder))


def npz(folder: Path) -> Path:
    return old_json(folder).with_suffix(".npz")


def read_changed_outcomes(path: Path) -> Figure:
    """With the digest repaired in the result's JSON, as somebody who knows his way would do."""
    for json_ in path.parent.glob("*.json"):
        if outcomes_of(json_) == path or json_.with_suffix(path.suffix) == path:
            record = json.loads(json_.read_text())
            record["outcomes_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            json_.write_text(json.dumps(record))
            result = read_result(json_)
            if not outcomes_path(result).exists():  # its name is made of the digest
                path.rename(outcomes_path(result))
            try:
                read_outcomes(result)
            except ResultError as error:
                assert "\n" not in str(error)  # noqa: PT017  (what it raises is part of what it gives)
    board_of(path.parents[3])
    return None


def other_table(content: bytes, draws: Draws) -> bytes:
    """Of Parquet: a column is of another type, has gaps, another name or is gone."""
    table = pq.read_table(io.BytesIO(content))
    at = int(draws.integers(table.num_columns))
    name, n = table.column_names[at], len(table)
    others = [
        pa.array([ODD[3]] * n),
        pa.nulls(n),
        pa.array([float("nan")] * n),
        pa.array(["a"] * n),
        pa.array([[1]] * n),
    ]
    others += [pa.array([2**62] * n), pa.array([-1] * n), pa.array([True] * n), pa.array([b"\xff"] * n)]
    kind = int(draws.integers(len(others) + 3))
    if kind < len(others):
        table = table.set_column(at, name, others[kind])
    elif kind == len(others):
        table = table.drop_columns([name])
    else:
        table = table.rename_columns([f"{one}x" if one == name else one for one in table.column_names])
    stream = io.BytesIO()
    pq.write_table(table, stream, compression=str(draws.choice(["snappy", "gzip", "zstd", "none"])))
    return stream.getvalue()


def other_arrays(content: bytes, draws: Draws) -> bytes:
    """Of npz: an array has another type, shape or name, or is none."""
    with np.load(io.BytesIO(content)) as file:
        arrays = {name: file[name] for name in file.files}
    name = str(draws.choice(sorted(arrays)))
    values = arrays.pop(name)
    others = (
        values[:3],
        values.astype("S9"),
        np.array(3),
        values[None],
        np.zeros(0),
        np.full(len(values), np.nan),
        np.array(["𝔸"] * 3),
    )
    stream = io.BytesIO()
    np.savez(stream, **arrays, **{str(draws.choice([name, "x", f"{name}x"])): others[int(draws.integers(len(others)))]})
    return stream.getvalue()


def samples_zip(folder: Path) -> Path:
    sampler, outcomes = Sampler(), attacked()
    images, one = np.random.default_rng(0).random((8, 3, 16, 16)), outcomes["clean"]
    norms = {"linf": np.ones(8), "l2": np.ones(8)}
    sampler.offer(one.ids[:8], one.labels[:8], one.predictions[:8], images, images, norms)
    pictures = pack_samples(made.IDENTITY, {"clean": sampler.samples}, [str(k) for k in range(10)])
    condition = made.condition("clean", outcomes["clean"])
    write_result(folder, made.result(score=accuracy(outcomes), conditions=(condition,)), outcomes, pictures)
    return next(path for path in folder.rglob("*.zip"))


def read_pictures(path: Path) -> Figure:
    (stored,), _ = read_results(path.parents[3])
    kept = read_samples(stored)
    board_of(path.parents[3])
    return {
        name: [(one.id, one.label, one.prediction, one.clean) for one in taken] for name, taken in kept.samples.items()
    }


def other_member(content: bytes, draws: Draws) -> bytes:
    """Of a zip: one member's JSON is odd, or its content something else; the checksums are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = str(draws.choice(sorted(files)))
    mutations = (odd_field,) if name.endswith(".json") else BYTES
    files[name] = mutations[int(draws.integers(len(mutations)))](files[name], draws)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for member, one in files.items():
            archive.writestr(member, one)
    return stream.getvalue()


def submission(folder: Path) -> Path:
    result_json(folder / "results")
    return pack(folder / "results", folder / "s.zip").path


def read_submission(path: Path) -> Figure:
    checked = check_archive(path)
    return checked.problems or [one.score for one in checked.results]


def baseline(folder: Path) -> Path:
    from regression_results import baseline as of

    write_baseline(folder / "b.json", of(read_result(result_json(folder))))
    return folder / "b.json"


def read_entries(path: Path) -> Figure:
    return [(one.key, one.score, one.images.ids.tolist(), one.right_CN.tolist()) for one in read_baseline(path).entries]


def jobs_of(name: str) -> Callable[[Path], Path]:
    """Makes the folder of a command's jobs; this file of it is changed."""

    def made_of(folder: Path) -> Path:
        book = Book(folder, "local")
        book.note("1", "the training of ns (seed 0)", "submitted")
        book.note("2", "ns x clean (seed 0)", "failed", "its machine was lost")
        (book.folder / "2_0_log.err").write_text("the last line")
        book.stack.close()
        return book.folder / name

    return made_of


def read_jobs_folder(path: Path) -> Figure:
    done = CliRunner().invoke(main, ["status", "--results", str(path.parents[2]), "--json"])
    assert done.exit_code == 0, done.exception
    if problems := json.loads(done.output)["problems"]:
        raise ResultError(problems[0])
    shown = CliRunner().invoke(main, ["status", "--results", str(path.parents[2])])
    assert shown.exit_code == 0, shown.exception
    assert "\x1b" not in shown.output


def odd_and_sealed(content: bytes, draws: Draws) -> bytes:
    """Of a baseline: an odd field, and the digest that fits."""
    record = json.loads(content)
    del record["sha256"]
    changed = odd_field(json.dumps(record).encode(), draws)
    body = changed.rstrip().removesuffix(b"}")
    return body + b',\n"sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'
