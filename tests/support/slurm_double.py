"""A stand-in for the scheduler: sbatch, srun, squeue, sacct, scancel and scontrol as scripts that run jobs on this machine.

`install` writes them to a folder for PATH. What is known of a job lies in the folder that SLURM_DOUBLE names, one folder
for each: its state, and the process that runs it. A file `refuse` there makes sbatch say no, and one `away` scancel; one
`hold` keeps jobs waiting.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol")
REPOSITORY = Path(__file__).parents[2]


def install(folder: Path) -> dict[str, str]:
    """The environment in which the stand-in is the scheduler."""
    bin_folder, state = folder / "bin", folder / "slurm"
    bin_folder.mkdir(parents=True)
    state.mkdir()
    for name in COMMANDS:
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {name} "$@"\n')
        script.chmod(0o755)
    return {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "SLURM_DOUBLE": str(state),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }


def root() -> Path:
    return Path(os.environ["SLURM_DOUBLE"])


def jobs() -> list[Path]:
    return sorted((path for path in root().iterdir() if path.is_dir()), key=lambda path: path.stat().st_ctime)


def options(script: str) -> dict[str, str]:
    """The lines of #SBATCH."""
    lines = [shlex.split(line.removeprefix("#SBATCH ")) for line in script.splitlines() if line.startswith("#SBATCH ")]
    return dict(word.removeprefix("--").partition("=")[::2] for words in lines for word in words)


def scripts() -> list[dict[str, str]]:
    """What was asked for with each sbatch, in order."""
    return [options(path.read_text()) for path in sorted(root().glob("*.sh"), key=lambda path: int(path.stem))]


def sbatch(arguments: list[str]) -> int:
    if (root() / "refuse").exists():
        print((root() / "refuse").read_text(), file=sys.stderr)
        return 1
    number = 100 + len(list(root().glob("*.sh")))
    script = Path(arguments[0]).read_text()
    (root() / f"{number}.sh").write_text(script)
    array = options(script).get("array", "")
    last = int(match[1]) if (match := re.match(r"0-(\d+)", array)) else None
    for job in [str(number)] if last is None else [f"{number}_{index}" for index in range(last + 1)]:
        (root() / job).mkdir()
        start(job)
    print(f"Submitted batch job {number}")
    return 0


def start(job: str) -> None:
    """In a session of its own, as a job is; the process that waits for it writes its state."""
    (root() / job / "state").write_text("PENDING")
    subprocess.Popen(
        [sys.executable, __file__, "_run", job], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _run(arguments: list[str]) -> int:
    (job,) = arguments
    folder, (number, _, index) = root() / job, job.partition("_")
    while (root() / "hold").exists():
        time.sleep(0.05)
    if (folder / "state").read_text() != "PENDING":
        return 0
    own = {"SLURM_JOB_ID": number, "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURMD_NODENAME": f"node{index or 0}"}
    if index:
        own |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index}
    process = subprocess.Popen(["bash", str(root() / f"{number}.sh")], env=os.environ | own)
    (folder / "pid").write_text(str(process.pid))
    (folder / "state").write_text("RUNNING")
    status = process.wait()
    if (folder / "state").read_text() == "REQUEUED":
        start(job)
    elif (folder / "state").read_text() == "RUNNING":
        (folder / "state").write_text("FAILED" if status else "COMPLETED")
    return 0


def srun(arguments: list[str]) -> int:
    """Becomes the command, with its output where it is to go."""
    number, index = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_ARRAY_TASK_ID", "")
    while arguments[0].startswith("--"):
        name = arguments.pop(0)
        if name in ("--output", "--error"):
            path = arguments.pop(0).replace("%j", number).replace("%A", number).replace("%a", index).replace("%t", "0")
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 1 if name == "--output" else 2)
    os.execvp(arguments[0], arguments)


def squeue(arguments: list[str]) -> int:
    name = next(word.partition("=")[2] for word in arguments if word.startswith("--name="))
    for folder in jobs():
        state = (folder / "state").read_text()
        if named(folder) == name and state in ("PENDING", "RUNNING", "REQUEUED"):
            print(f"{folder.name}|{state}|{'Priority' if state == 'PENDING' else 'None'}")
    return 0


def sacct(arguments: list[str]) -> int:
    print("JobID|State|NodeList")
    for folder in jobs():
        print(f"{folder.name}|{(folder / 'state').read_text()}|node")
    return 0


def scancel(arguments: list[str]) -> int:
    if (root() / "away").exists():
        print((root() / "away").read_text(), file=sys.stderr)
        return 1
    name = next(word.partition("=")[2] for word in arguments if word.startswith("--name="))
    for folder in jobs():
        if named(folder) == name and (folder / "state").read_text() in ("PENDING", "RUNNING"):
            end(folder.name, "CANCELLED by 0")
    return 0


def named(folder: Path) -> str:
    return options((root() / f"{folder.name.partition('_')[0]}.sh").read_text())["job-name"]


def scontrol(arguments: list[str]) -> int:
    """scontrol requeue JOB: the job ends, and starts once more."""
    (root() / arguments[1] / "state").write_text("REQUEUED")
    with (root() / arguments[1] / "requeues").open("a") as file:
        file.write("x")
    return 0


def end(job: str, state: str, number: int = signal.SIGKILL) -> None:
    """As SLURM ends a job, which then has this state."""
    (root() / job / "state").write_text(state)
    if (root() / job / "pid").exists():
        tell(job, number)


def tell(job: str, number: int) -> None:
    """A signal to a job's process; srun has become the task. Its parent ends with it, and so is told first."""
    parent = int((root() / job / "pid").read_text())
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for process in [*([parent] if number == signal.SIGKILL else []), *map(int, children)]:
        with suppress(ProcessLookupError):
            os.kill(process, number)


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](sys.argv[2:]))
