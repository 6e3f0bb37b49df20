"""Ray clusters of this machine alone for tests, started with patience: the machine may be busy."""

from __future__ import annotations

import inspect
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 240.0  # seconds; Ray's own is 30, of which a busy machine needs more for its agents alone
REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "disabled",  # nobody else reaches it: it listens to this machine and ends with the tests
    "RAY_agent_register_timeout_ms": str(int(PATIENCE * 1000)),
    "RAY_worker_niceness": "0",
    "RAY_worker_register_timeout_seconds": str(int(PATIENCE)),
    "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    "OMP_NUM_THREADS": "1",
}


# Chosen here, so that a node does not wait for agents that say theirs: it gives up after 15 seconds
PORTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_longer() -> None:
    """Ray asks for the facts of a new node until it is there, for 30 seconds; here each question waits itself. What an
    agent would say of a port that nobody uses is said before it starts."""
    from ray._private import services

    ask = services.get_node
    if ask.__name__ == "patient":
        return

    def patient(*arguments: Any, **keywords: Any) -> Any:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return ask(*arguments, **keywords)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    start, of = services.start_raylet, inspect.signature(services.start_raylet)

    def start_with_port(*arguments: Any, **keywords: Any) -> Any:
        given = of.bind(*arguments, **keywords).arguments
        said = Path(given["session_dir"]) / f"dashboard_agent_listen_port_{given['node_id']}"
        said.write_text(str(free_port()))
        return start(*arguments, **keywords)

    services.get_node, services.start_raylet = patient, start_with_port


def add_node(made: Any, cpus: int = 1) -> Any:
    """One more machine."""
    return made.add_node(num_cpus=cpus, include_dashboard=False, **{name: free_port() for name in PORTS})


@contextmanager
def cluster(nodes: int = 2, cpus: int = 1, **environment: str) -> Iterator[Any]:
    """So many nodes with so many cores each, all of this machine."""
    before = {name: os.environ.get(name) for name in {**ENVIRONMENT, **environment}}
    os.environ |= {**ENVIRONMENT, **environment}
    import ray
    from ray.cluster_utils import Cluster

    wait_longer()
    made = Cluster()
    try:
        for _ in range(nodes):
            add_node(made, cpus)
        yield made
    finally:
        if ray.is_initialized():
            ray.shutdown()
        made.shutdown()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
