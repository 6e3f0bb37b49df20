"""What a worker does: one training, or one pair or a part of it. It opens data and model once and writes no result."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import nsbench
from nsbench import provenance, registry, results
from nsbench.data import Split
from nsbench.data.source import Remembered
from nsbench.errors import NsbenchError
from nsbench.progress import Progress
from nsbench.results import to_json
from nsbench.run.engines.travel import unpacked
from nsbench.run.engines.work import (
    Answer,
    Files,
    Fit,
    FitWork,
    Measured,
    PairWork,
    Part,
    Refused,
    Sent,
    Trouble,
    Where,
    Work,
)
from nsbench.run.job import Job, open_job
from nsbench.run.kept_fits import Fitted, drop_files, files_of, keep_files, kept_in
from nsbench.run.known import Memory
from nsbench.run.named_suites import register_sets
from nsbench.run.pair import doubts_of, evaluations_of, identity_of, packed_pictures, pair_of, splits_of
from nsbench.run.parts import part_of
from nsbench.run.recording import result_of
from nsbench.run.runner import with_meaning
from nsbench.run.trainings import fit_key, fitted, job_of
from nsbench.types import Method

TASKS = "tasks"  # folder of weights that workers keep, beside those of whoever started the run
FULL = (errno.ENOSPC, errno.EDQUOT)


class _Unfit(Exception):
    """This machine can do no work of the run."""


class _Said(Progress):
    """Keeps lines for the process that asked."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def clear(self) -> None:
        self.lines, self.warnings = [], []

    def line(self, text: str = "", style: str = "") -> None:
        if style != "dim":
            (self.warnings if style == "yellow" else self.lines).append(text)


@dataclass
class _Opened:
    """What the works of one run share in this process."""

    job: Job
    said: _Said
    folder: Path  # of fitted weights
    splits: dict[str, list[Split]] = field(default_factory=dict)  # by suite
    key: str = ""  # of the last fitted model
    model: Fitted | None = None
    memory: Memory = field(default_factory=Memory)  # of that model


_runs: dict[str, _Opened] = {}  # of this process, by the digest of what was sent


def perform(sent: Sent, work: Work, weights: Sequence[Files]) -> Answer:
    """Do it. `weights`: the fits that it starts from. What goes wrong is an answer, too, in one line."""
    host = os.uname().nodename
    try:
        try:
            opened = _opened(sent)
        except NsbenchError as error:
            raise _Unfit(str(error)) from error
        opened.said.clear()
        _keep(opened.folder, weights)
        return _fit(opened, work, sent.options.force) if isinstance(work, FitWork) else _pair(opened, work)
    except _Unfit as error:
        return Trouble(_line(error), host)
    except (NsbenchError, torch.OutOfMemoryError) as error:
        return Trouble(_line(error), host) if _is_full(error) else Refused(f"{_line(error)} (on {host})")
    except Exception as error:  # noqa: BLE001  said in a line where it was asked for
        if _is_full(error):
            return Trouble(_line(error), host)
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}:{last.lineno}, on {host}"
        return Refused(f"unexpected {type(error).__name__}: {_line(error)} ({where})")


def _opened(sent: Sent) -> _Opened:
    """Data, model and what is known of them: of one run at a time."""
    if sent.digest not in _runs:
        _runs.clear()
        _runs[sent.digest] = _open(sent)
    return _runs[sent.digest]


def _open(sent: Sent) -> _Opened:
    if sent.version != nsbench.__version__:
        raise NsbenchError(f"nsbench {nsbench.__version__} is installed here, and {sent.version} is asked for")
    options = unpacked(sent)
    register_sets(options.data)
    said, folder = _Said(), kept_in(options.weights) / TASKS
    job = with_meaning(open_job(replace(options, weights=folder, force=False), said))
    return _Opened(replace(job, source=Remembered(job.source)), said, folder)


def _keep(folder: Path, weights: Sequence[Files]) -> None:
    """The files of fits where a fitter finds them, unless these very ones are there: the card tells."""
    for files in weights:
        card = list(files)[-1]
        if not (folder / card).exists() or (folder / card).read_bytes() != files[card]:
            keep_files(folder, files)


def _fit(opened: _Opened, work: FitWork, again: bool) -> Fit:
    job = job_of(opened.job, work.seed, work.compute)
    method, path = job.method(work.method), opened.folder / f"{work.key}.safetensors"
    with _here():
        key = fit_key(job, method)
    _require_same(key, work.key, f"{work}")
    if again:
        drop_files(path)
    fitted(job, method)
    return Fit(files_of(path), (*opened.said.warnings, *opened.said.lines[-1:]))


def _pair(opened: _Opened, work: PairWork) -> Measured | Part:
    start = time.perf_counter()
    job = job_of(opened.job, work.seed, work.compute)
    method, suite = job.method(work.method), registry.suites[work.suite]
    with _here():
        splits = opened.splits.get(work.suite) or opened.splits.setdefault(work.suite, splits_of(job, suite))
        key = fit_key(job, method)
    _require_same(identity_of(job, suite, splits, key), work.identity, f"{work}")
    model = _model(opened, job, method, key)
    pair = pair_of(job, method, work.suite)
    if work.parts > 1:
        assert job.options.shard_images is not None
        own = part_of(splits, job.options.shard_images, work.part)
        evaluations = evaluations_of(job, suite, own, model.model, opened.memory, pair, may_be_empty=True)
        return Part(evaluations, model.card, _where(job, start), tuple(opened.said.warnings))
    evaluations = evaluations_of(job, suite, splits, model.model, opened.memory, pair)
    result = result_of(job, method, suite, splits, model, evaluations, work.identity, time.perf_counter() - start)
    outcomes = {name: evaluation.outcomes for name, evaluation in evaluations.items()}
    stated, content = results.with_outcomes(result, outcomes)
    pictures = packed_pictures(job, splits, work.identity, evaluations)
    doubts = tuple(doubts_of(stated, evaluations))
    return Measured(to_json(stated), content, pictures, doubts, tuple(opened.said.warnings))


def _model(opened: _Opened, job: Job, method: Method, key: str) -> Fitted:
    """The fitted model; the last one is kept, with what is known of unattacked images."""
    if opened.model is None or opened.key != key:
        opened.model = None  # before another one is loaded
        opened.model, opened.key, opened.memory = fitted(job, method), key, Memory()
    return opened.model


def _where(job: Job, start: float) -> Where:
    return Where(
        provenance.versions(),
        provenance.commit(),
        provenance.device_name(job.device),
        provenance.peak_memory_mib(job.device),
        job.batch_size,
        time.perf_counter() - start,
    )


@contextmanager
def _here() -> Iterator[None]:
    """Data that are not here may be elsewhere."""
    try:
        yield
    except NsbenchError as error:
        raise _Unfit(str(error)) from error


def _require_same(found: str, asked: str, what: str) -> None:
    if found != asked:
        raise _Unfit(f"{what}: data, weights or content of one's own are others here than where the run was started")


def _is_full(error: BaseException) -> bool:
    """Whether a disk has no room, which is no fault of the work."""
    causes: list[BaseException | None] = [error, error.__cause__, error.__context__]
    return any(isinstance(one, OSError) and one.errno in FULL for one in causes)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
