"""Where a figure comes from: versions, commit, device, command, date. Every result carries it."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nsbench import processes

PACKAGES = ("torch", "torchvision", "timm", "torchattacks", "robustbench", "imagecorruptions", "numpy", "pillow")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python and of every library that can move a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


@lru_cache(maxsize=1)
def commit() -> str | None:
    """Commit of the checkout that nsbench runs from, with '+changes' when it differs; None when installed."""
    package = Path(__file__).parent
    if not (package.parent / "pyproject.toml").is_file():
        return None
    try:
        head = _git(package, "rev-parse", "--short=12", "HEAD")
        return head + (
            "+changes"
            if _git(package, "status", "--porcelain", "--", "nsbench", "suites", "baselines", untracked=False)
            else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str, untracked: bool = True) -> str:
    command = ["git", "-C", str(folder.parent), *arguments]
    if not untracked:
        command.insert(4, "--untracked-files=no")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def device_name(device: str) -> str:
    """What the figures were computed on, for people: "CPU, 2 threads" or the GPU's own name; and how many processes."""
    import torch

    together = f", {processes.count()} processes" if processes.count() > 1 else ""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device) + together
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}), {threads} thread{'s' if threads > 1 else ''}{together}"


def peak_memory_mib(device: str) -> int | None:
    """Largest memory so far: of the process on a CPU, of the allocator on a GPU. None on a CPU under Windows."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device)) >> 20
    if sys.platform == "win32":  # it has no module `resource`
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) >> (20 if sys.platform == "darwin" else 10)


def command_line() -> str:
    """The command as it was typed, ready to paste."""
    program = Path(sys.argv[0]).name
    program = "nsbench" if program in ("__main__.py", "nsbench") else program
    return shlex.join([program, *sys.argv[1:]])


def now() -> str:
    """UTC, to the second. SOURCE_DATE_EPOCH, where set, makes it reproducible."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.isoformat(timespec="seconds")
