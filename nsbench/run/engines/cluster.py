"""Steps as tasks of a Ray cluster: of one that runs, or of one of this machine alone, which ends with the run.

Weights and what comes back travel through Ray's object store. Ray's own retries are off: the scheduler has its own,
which know a worker that died from work that cannot be done.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsbench import processes
from nsbench.errors import UsageError
from nsbench.progress import Progress
from nsbench.run.engines.scheduler import Ended, Step
from nsbench.run.engines.work import Answer, Files, Fit, FitWork, Perform, Reply, Sent, Trouble, Work

if TYPE_CHECKING:
    from nsbench.run.options import RunOptions

NAME = "ray"  # of the engine, and of the package
FITS = 16  # whose weights are held for tasks to come
LOOKS = 5.0  # seconds between two looks at the cluster's machines
GB = 10**9
PATIENCE = {  # Ray's settings: how long what it starts may take, on a machine that is busy
    "RAY_agent_register_timeout_ms": "240000",
    "RAY_worker_register_timeout_seconds": "240",
    "RAY_gcs_server_request_timeout_seconds": "240",
}
LOST = {  # of Ray's exceptions: what to say
    "OutOfMemoryError": "its worker used more memory than its machine has; give each task more with --task-memory GB",
    "NodeDiedError": "its machine was lost",
    "ObjectLostError": "what it needs was lost with a machine",
    "OwnerDiedError": "what it needs was lost with a machine",
    "WorkerCrashedError": "its worker was killed",
    "LocalRayletDiedError": "its machine was lost",
}


@dataclass(frozen=True)
class Resources:
    """What each task uses."""

    cpus: float
    gpus: float
    memory: int  # bytes

    def slots(self, node: dict[str, Any]) -> int:
        """How many tasks a machine takes at a time."""
        has = node.get("Resources", {})
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return min((int(has.get(name, 0) / amount + 1e-9) for name, amount in asked.items() if amount), default=0)

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU", *([f"{self.gpus:g} GPU"] if self.gpus else [])]
        return ", ".join([*parts, *([f"{self.memory / GB:g} GB"] if self.memory else [])])


def _task(perform: Perform, box: list[Any], work: Work, *weights: Any) -> Reply:
    """What runs in a worker. `box`: a reference to what was sent, which a worker fetches once."""
    import ray

    own: Any = ray.get_runtime_context()
    processes.take_cores(int(own.get_assigned_resources().get("CPU", 1)))
    files = [_files(one.answer) if isinstance(one, Reply) else one for one in weights]
    return Reply(own.get_node_id(), perform(_sent(box[0]), work, files))


def _files(answer: Answer) -> Files:
    assert isinstance(answer, Fit)
    return answer.files


_fetched: dict[str, Sent] = {}


def _sent(reference: Any) -> Sent:
    import ray

    name = reference.hex()
    if name not in _fetched:
        _fetched.clear()
        _fetched[name] = ray.get(reference)
    return _fetched[name]


class Cluster:
    """An engine: see `scheduler.Engine`."""

    def __init__(
        self, options: RunOptions, sent: Sent, files: Callable[[str], Files], progress: Progress, perform: Perform
    ) -> None:
        self.ray = _ray()
        self.files, self.progress = files, progress
        self.own = _join(self.ray, options.engine)
        self.flight: dict[Any, Step[Work]] = {}  # by the reference to its reply
        self.weights: OrderedDict[str, Any] = OrderedDict()  # references to files of fits, by key
        self.avoided: dict[str, str] = {}  # machines that can do no work of the run, and why
        self.looked, self.free = 0.0, 0
        try:
            self.resources = _resources(options, self._nodes())
            self.box = [self.ray.put(sent)]
            self.function = self.ray.remote(
                num_cpus=self.resources.cpus,
                num_gpus=self.resources.gpus,
                memory=self.resources.memory or None,
                max_retries=0,
                max_calls=int(bool(self.resources.gpus)),  # 0: without end. A process would keep its first GPU, and
                # Ray give it another one for its next task
            )(_task)
            self.perform = self.ray.put(perform)
        except BaseException:
            self.close()
            raise

    def describe(self) -> str:
        nodes = self._nodes()
        many = f"{len(nodes)} machines" if len(nodes) > 1 else "one machine"
        return f"Ray: {many}, {sum(map(self.resources.slots, nodes))} tasks at a time, each with {self.resources}"

    def room(self) -> int:
        """Half as many again as run at a time, so that a worker finds its next task at once."""
        if time.monotonic() - self.looked > LOOKS:
            slots = sum(self.resources.slots(node) for node in self._nodes() if node["NodeID"] not in self.avoided)
            if not slots and self.free:
                self.progress.line("Ray: no machine is left that can take a task; waits for one", style="yellow")
            self.looked, self.free = time.monotonic(), slots + (slots + 1) // 2
        return self.free

    def submit(self, step: Step[Work]) -> None:
        function = self.function
        if self.avoided:
            function = function.options(label_selector={"ray.io/node-id": f"!in({','.join(self.avoided)})"})
        weights = [self._reference(key) for key in step.work.weights]
        self.flight[function.remote(self.perform, self.box, step.work, *weights)] = step

    def wait(self, seconds: float) -> list[Ended[Answer]]:
        if not self.flight:
            time.sleep(min(seconds, 1.0))
            return []
        done, _ = self.ray.wait(list(self.flight), timeout=seconds)
        if not done:
            return []
        done, _ = self.ray.wait(list(self.flight), num_returns=len(self.flight), timeout=0)
        return [self._ended(reference, self.flight.pop(reference)) for reference in done]

    def close(self) -> None:
        """Cancels what is in flight; a cluster that was started for the run ends."""
        with suppress(self.ray.exceptions.RayError):
            for reference in self.flight:
                self.ray.cancel(reference, force=True)
        self.flight.clear()
        if self.own:
            self.ray.shutdown()

    def _ended(self, reference: Any, step: Step[Work]) -> Ended[Answer]:
        try:
            reply: Reply = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            for key in step.work.weights:  # they may be what is lost; they are read again from here
                self.weights.pop(key, None)
            return Ended(step.key, lost=_words(error))
        if isinstance(reply.answer, Trouble):
            return self._avoid(reply.node, reply.answer, step)
        if isinstance(reply.answer, Fit) and isinstance(step.work, FitWork):
            self._hold(step.work.key, reference)
        return Ended(step.key, reply.answer)

    def _avoid(self, node: str, trouble: Trouble, step: Step[Work]) -> Ended[Answer]:
        """The step is done by another machine, where there is one."""
        if node not in self.avoided:
            self.avoided[node] = trouble.why
            self.progress.line(f"{trouble.host} does no more work of this run: {trouble.why}", style="yellow")
            self.looked = 0.0
        others = [one for one in self._nodes() if one["NodeID"] not in self.avoided and self.resources.slots(one)]
        if not others:
            return Ended(step.key, trouble.with_host())
        return Ended(step.key, lost=trouble.why, counts=False)

    def _reference(self, key: str) -> Any:
        """To the files of a fit: where it was made, or else as they are kept here."""
        if key not in self.weights:
            self._hold(key, self.ray.put(self.files(key)))
        self.weights.move_to_end(key)
        return self.weights[key]

    def _hold(self, key: str, reference: Any) -> None:
        self.weights[key] = reference
        while len(self.weights) > FITS:
            self.weights.popitem(last=False)

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"--engine {NAME}: the package is not installed ({error}); pip install 'nsbench[ray]'"
        ) from error
    return ray


def _join(ray: Any, engine: str) -> bool:
    """Whether the connection is this run's own. SIGTERM keeps the meaning that it has here. Raises UsageError."""
    if ray.is_initialized():
        return False
    address = engine.removeprefix(NAME).removeprefix("://")
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        why = _not_started(ray, address)
        if why and not address:  # its own processes have half a minute; the second time they are quicker
            why = _not_started(ray, address)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    if why:
        raise UsageError(f"--engine {engine}: {_what_to_do(address, why)}")
    return True


def _not_started(ray: Any, address: str) -> str:
    """Connects, to a Ray of this machine alone where there is no address; why it failed, "" where it did not."""
    try:
        ray.init(
            address or "local", include_dashboard=None if address else False, log_to_driver=False, logging_level="ERROR"
        )
    except Exception as error:  # noqa: BLE001  Ray raises plain Exceptions, too; said in a line
        with suppress(Exception):  # what it had started is ended
            ray.shutdown()
        return " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
    return ""


def _what_to_do(address: str, why: str) -> str:
    if address:
        return (
            f"there is no Ray cluster ({why}); start one with ray start --head and join this machine with ray start "
            "--address, or leave the address out"
        )
    return f"Ray did not start on this machine ({why}); try again when it is less busy, or run without --engine"


def _resources(options: RunOptions, nodes: Iterable[dict[str, Any]]) -> Resources:
    """As the options say, else a GPU for each task where there are GPUs, with its share of the cores; else one core.

    Raises UsageError where no machine has so much.
    """
    found = [(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)) for node in nodes]
    gpus = options.task_gpus
    if gpus is None:
        gpus = 1.0 if options.device != "cpu" and any(count for _, count in found) else 0.0
    cpus = options.task_cpus
    if cpus is None:
        shares = [min(8, int(cores * gpus // count)) for cores, count in found if count]
        cpus = float(max(1, min(shares))) if gpus and shares else 1.0
    asked = Resources(cpus, gpus, int((options.task_memory or 0) * GB))
    if not any(map(asked.slots, nodes)):
        raise UsageError(f"--engine {options.engine}: no machine of the cluster has {asked} for a task; ask for less")
    return asked


def _words(error: Exception) -> str:
    kinds = [kind.__name__ for kind in type(error).__mro__]
    known = next((LOST[kind] for kind in kinds if kind in LOST), "")
    return known or f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
