"""Where submitit's jobs run: in the queue of SLURM, or, where there is none, as processes of this machine."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nsbench.files import available_cores
from nsbench.run.engines.jobs import Jobs
from nsbench.run.engines.pool import visible_gpus

if TYPE_CHECKING:
    from nsbench.run.engines.slurm_settings import SlurmSettings

LOOKS = 30.0  # seconds between two looks into the queue
GRACE = 60.0  # seconds that an answer may take to be seen here after its job has left the queue
PATIENCE = 60  # seconds that a command of SLURM may take
TIMEOUTS = 10_000  # of submitit, which counts none then: a task counts its own
WAITS = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
Task = Callable[[], object]


class Queue(Protocol):
    """Takes tasks and says which of them have ended."""

    room: int  # how many may be in it
    pause: float  # seconds between two looks at answers

    def describe(self) -> str: ...

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        """A job of submitit for each."""

    def ended(self, jobs: Mapping[str, Any]) -> dict[str, str]:
        """By id: "" for a job that has answered, and the scheduler's word for one that has not."""

    def avoid(self, node: str) -> bool:
        """Send no more jobs to a machine; whether that can be done."""

    def cancel(self) -> str:
        """All that it was given, and that has not ended; why that cannot be done, "" where it was."""


@dataclass(frozen=True)
class Queued:
    """A job as the queue of SLURM has it."""

    waits: bool
    why: str = ""  # it waits


def has_slurm() -> bool:
    return None not in (shutil.which("sbatch"), shutil.which("srun"))


def queued(name: str) -> dict[str, Queued] | None:
    """The jobs of this name, by id; None where the queue cannot be asked."""
    done = _asked("squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--name={name}", "--format=%i|%T|%r")
    if done is None or done.returncode:
        return None
    rows = [line.strip().split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
    return {job: Queued(state in WAITS, why if state in WAITS else "") for job, state, why in rows}


def runs_here(job: str, folder: Path) -> bool:
    """Whether the process of a job is still there; its id may be another one's by now."""
    try:
        words = Path(f"/proc/{int(job)}/cmdline").read_bytes().decode(errors="replace")
    except (OSError, ValueError):
        done = None if Path("/proc/self").exists() else _asked("ps", "-p", job, "-o", "command=")
        words = done.stdout if done else ""
    return str(folder) in words


def cancel_left(jobs: Jobs) -> int | str:
    """End the jobs of a command that was killed: how many its book has, or why it cannot be done from here."""
    if jobs.command.where == "slurm":
        return _cancel_all(jobs.folder.name) or len(jobs.open)
    if jobs.command.host != os.uname().nodename:
        return f"they are of {jobs.command.host}" if jobs.open else 0
    alive = [int(one.job) for one in jobs.open if runs_here(one.job, jobs.folder)]
    for job in alive:
        with suppress(ProcessLookupError):
            os.kill(job, signal.SIGINT)
    return len(alive)


class SlurmQueue:
    """See `Queue`. Tasks that are submitted together are one array."""

    pause = 2.0

    def __init__(self, submitit: Any, settings: SlurmSettings, folder: Path) -> None:
        self.settings, self.folder, self.room = settings, folder, settings.max_jobs
        self.executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=TIMEOUTS)
        self.executor.update_parameters(**sbatch_parameters(settings, folder.name))
        self.avoided: list[str] = []
        self.looked = time.monotonic()
        self.missing: dict[str, float] = {}  # since when a job is not in the queue

    def describe(self) -> str:
        return f"SLURM: at most {self.room} jobs at a time, each with {self.settings.describe()}"

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        with redirect_stderr(io.StringIO()):  # it is in the exception, too
            jobs: list[Any] = self.executor.submit_array(tasks)
        return jobs

    def ended(self, jobs: Mapping[str, Any]) -> dict[str, str]:
        self.folder.chmod(0o700)  # without a change NFS may show a list of files that is a minute old
        names = set(os.listdir(self.folder))
        found = {name: "" for name, job in jobs.items() if job.paths.result_pickle.name in names}
        if time.monotonic() - self.looked >= LOOKS:
            self.looked = time.monotonic()
            states = queued(self.folder.name)
            if states is not None:
                found |= {
                    name: self._state(jobs[name]) for name in self._gone(jobs.keys() - states.keys() - found.keys())
                }
        return found

    def avoid(self, node: str) -> bool:
        if node not in self.avoided and len(self.avoided) >= 4:  # it is not the machines
            return False
        if node not in self.avoided:
            self.avoided.append(node)
            self.executor.update_parameters(slurm_exclude=",".join(self.avoided))
        return True

    def cancel(self) -> str:
        """By their name, so that one which was submitted a moment ago is among them."""
        return _cancel_all(self.folder.name)

    def _gone(self, missing: set[str]) -> list[str]:
        """Those that have been missing for some time."""
        now = time.monotonic()
        self.missing = {name: self.missing.get(name, now) for name in missing}
        return [name for name, since in self.missing.items() if now - since >= GRACE]

    def _state(self, job: Any) -> str:
        """As sacct has it: the first word of "CANCELLED by 1000"."""
        return str(job.get_info().get("State", "")).partition(" ")[0].rstrip("+") or "no state is known"


class LocalQueue:
    """See `Queue`. `gpus`: by name; each job gets one of them, or the CPU alone where there is none."""

    pause = 0.1

    def __init__(self, submitit: Any, settings: SlurmSettings, folder: Path, gpus: Sequence[str]) -> None:
        self.settings, self.folder = settings, folder
        self.places: list[str | None] = list(gpus) or [None] * max(1, available_cores() // (settings.cpus or 1))
        self.room = min(len(self.places), settings.max_jobs)
        self.running: dict[str, tuple[Any, str | None]] = {}  # with the place of each
        self.executor = submitit.LocalExecutor(folder, max_num_timeout=TIMEOUTS)
        self.executor.update_parameters(timeout_min=settings.time)

    def describe(self) -> str:
        with_gpu = "the CPU" if None in self.places else "a GPU of its own"
        return f"{self.room} job{'s' if self.room > 1 else ''} at a time on this machine, each with {with_gpu}"

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        return [self._submitted(task) for task in tasks]

    def _submitted(self, task: Task) -> Any:
        free = list(self.places)
        for _, used in self.running.values():
            free.remove(used)
        gpus = [free[0]] if free[0] is not None else []
        self.executor.parameters |= {"visible_gpus": gpus, "gpus_per_node": len(gpus)}
        with _processes_start(self.folder / "processes.log", self.settings.cpus or 1):
            job = self.executor.submit(task)
        self.running[job.job_id] = job, free[0]
        return job

    def ended(self, jobs: Mapping[str, Any]) -> dict[str, str]:
        over = {name: job for name, job in jobs.items() if job.done()}
        for name in over:
            self.running.pop(name, None)
        return {
            name: "" if job.paths.result_pickle.exists() else "its process was killed" for name, job in over.items()
        }

    def avoid(self, node: str) -> bool:
        return False

    def cancel(self) -> str:
        left = [job for job, _ in self.running.values()]
        for job in left:
            job.cancel()
        end = time.monotonic() + 10
        while left and time.monotonic() < end:
            time.sleep(0.05)
            left = [job for job in left if not job.done()]
        return f"processes {', '.join(job.job_id for job in left)} do not end" if left else ""


def local_gpus(asked: int | None, device: str) -> list[str]:
    """The names of those that jobs of this machine may use."""
    if device == "cpu" or asked == 0:
        return []
    import torch

    return visible_gpus(torch.cuda.device_count()) if torch.cuda.is_available() else []


def sbatch_parameters(settings: SlurmSettings, name: str) -> dict[str, object]:
    """As submitit's executor takes them; None: not given."""
    places = {f"slurm_{key}": getattr(settings, key) or None for key in ("partition", "account", "qos", "constraint")}
    return {
        "name": name,
        "timeout_min": settings.time,
        "cpus_per_task": settings.cpus,
        "gpus_per_node": settings.gpus or None,
        "mem_gb": settings.memory,
        **places,
        "slurm_array_parallelism": settings.max_jobs,
        "slurm_setup": list(settings.setup) or None,
        "slurm_additional_parameters": {"requeue": True},
    }


@contextmanager
def _processes_start(log: Path, threads: int) -> Iterator[None]:
    """Processes that start inside write to a log, use so many threads, and end with SIGINT, which this one may ignore."""
    main = threading.current_thread() is threading.main_thread()
    ignored = main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    stated, before = os.environ.get("OMP_NUM_THREADS"), [os.dup(number) for number in (1, 2)]
    with log.open("ab") as file:
        for number in (1, 2):  # a pipe to which this one writes ends with it
            os.dup2(file.fileno(), number)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            yield
        finally:
            if ignored:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            if stated is None:
                del os.environ["OMP_NUM_THREADS"]
            for number, place in enumerate(before, 1):
                os.dup2(place, number)
                os.close(place)


def _cancel_all(name: str) -> str:
    """Why the scheduler could not be told so; "" where it could."""
    done = _asked("scancel", f"--user={os.getuid()}", f"--name={name}")
    if done is None:
        return "scancel is not there, or does not answer"
    said = done.stderr.strip().splitlines()
    return (said[-1] if said else f"scancel: status {done.returncode}") if done.returncode else ""


def _asked(*command: str) -> subprocess.CompletedProcess[str] | None:
    """What a command says; None where it is not there, or hangs."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
