"""Processes that share results and weights: each piece of work is done once, and nobody waits for the dead."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from nsbench.cli import main
from nsbench.errors import ResultError
from nsbench.progress import Progress
from nsbench.results import read_results, turn_path
from nsbench.run.turns import Elsewhere, clear_turn, turn

SHORT = ["--recipe", "quick", "--set", "rounds=1", "--set", "steps_per_round=2", "--set", "noise_max_steps=3"]
HOLDER = """
import sys, time
from pathlib import Path
from nsbench.run.turns import turn
with turn(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str, style: str = "") -> None:
        self.lines.append(text)


def test_one_process_at_a_time_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.turn"
    path.parent.mkdir()
    other = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    assert other.stdout
    other.stdout.readline()
    with (
        pytest.raises(Elsewhere, match=rf"it is done by another process now \(process {other.pid} on "),
        turn(path, "it"),
    ):
        raise AssertionError
    clear_turn(path)
    assert path.exists()  # somebody's, who lives
    threading.Timer(1, lambda: (other.kill(), other.wait())).start()
    told, begun = Told(), time.monotonic()
    with turn(path, "it", wait=told):
        assert time.monotonic() - begun < 30
    assert told.lines == [f"it: waits for another process that does it (process {other.pid} on {os.uname().nodename})"]
    assert not path.exists()


def left_behind(folder: Path) -> Path:
    """The turn of a process that was killed."""
    path = folder / "a.turn"
    other = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    assert other.stdout
    other.stdout.readline()
    other.kill()
    other.wait()
    return path


def test_what_a_killed_process_left_behind_its_work_is_cleared(tmp_path: Path) -> None:
    path = left_behind(tmp_path)
    assert path.exists()
    clear_turn(path)
    assert not path.exists()
    clear_turn(path)


def test_what_a_machine_that_died_holds_lapses_for_one_who_looks_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known by its silence alone, of which each look sees a part."""
    path = left_behind(tmp_path)
    path.write_text(path.read_text().replace(os.uname().nodename, "another-machine"))
    clock = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for _ in range(7):
        with pytest.raises(Elsewhere, match="on another-machine"), turn(path, "it"):
            raise AssertionError
        clock[0] += 9
    with turn(path, "it"):
        assert path.exists()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_takes_no_file_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ResultError, match="cannot be written"), turn(tmp_path / "a.turn", "it"):
        pass


def test_a_run_does_other_pairs_while_another_process_does_one(tmp_path: Path, own_cache: Path) -> None:
    command = ["run", "--method", "pretrained", "--suite", "clean,fgsm", "--limit", "20", "--results", str(tmp_path)]
    assert CliRunner().invoke(main, command).exit_code == 0
    (clean,) = [one for one in read_results(tmp_path)[0] if one.suite == "clean"]
    for path in tmp_path.rglob("*.*"):
        path.unlink()
    path = turn_path(tmp_path, "shapes10", "vit_shapes10", "pretrained", clean.identity)
    held = threading.Event()

    def hold() -> None:
        """Until the other pair is stored, and some time longer."""
        with turn(path, "clean"):
            held.set()
            end = time.monotonic() + 120
            while not list(tmp_path.rglob("fgsm*.json")) and time.monotonic() < end:
                time.sleep(0.1)
            time.sleep(5)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    done = CliRunner().invoke(main, command)
    holder.join()
    assert done.exit_code == 0, done.output
    told = done.output
    assert "waits for other processes, which do pretrained x clean" in told
    assert told.index("pretrained x fgsm") < told.index("waits for other") < told.rindex("pretrained x clean")
    assert "2 done" in told
    assert not list(tmp_path.rglob("*.turn"))


def start(folder: Path, number: int) -> subprocess.Popen[bytes]:
    log = (folder / f"{number}.log").open("ab")
    own = {"NSBENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = ["run", "--method", "finetune,random_noise", "--suite", "clean,fgsm", "--limit", "20"]
    return subprocess.Popen(
        [sys.executable, "-m", "nsbench", *command, *SHORT, "--results", "results"],
        cwd=folder, stdout=log, stderr=log, env={**os.environ, **own},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_eight_processes_with_one_command_and_kills_compute_each_pair_once(tmp_path: Path) -> None:
    draws = random.Random(0)
    processes = {number: start(tmp_path, number) for number in range(8)}
    for _ in range(6):  # kills, each followed by the same command again
        time.sleep(draws.uniform(2, 8))
        victim = draws.choice(sorted(processes))
        processes[victim].send_signal(signal.SIGKILL)
        processes[victim].wait()
        processes[victim] = start(tmp_path, victim)
    assert {process.wait(600) for process in processes.values()} == {0}
    results, problems = read_results(tmp_path / "results")
    assert (sorted((one.method, one.suite) for one in results), problems) == (
        [(method, suite) for method in ("finetune", "random_noise") for suite in ("clean", "fgsm")],
        [],
    )
    log = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert log.count("s with recipe 'quick'") == 2  # trainings that came to their end
    scored = [line for line in log.splitlines() if "n = 20" in line]
    assert len(scored) == 4, scored
    left = [
        path.name for path in tmp_path.rglob("*") if path.suffix in (".turn", ".training") or ".writing" in path.name
    ]
    assert left == []
