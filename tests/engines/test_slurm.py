"""Jobs through submitit: as processes of this machine, and in the queue of a stand-in for SLURM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engine_doubles
import pytest
import slurm_double
from click.testing import CliRunner
from engine_books import Written
from slurm_jobs import SETTINGS, fit, pair, started, steps, submitted
from test_equal import assert_done, assert_same_grid, options

from nsbench.cli import main
from nsbench.errors import UsageError
from nsbench.progress import SILENT, Progress
from nsbench.results import read_results
from nsbench.run.engines import queues, run, slurm
from nsbench.run.engines.jobs import FOLDER, read_jobs
from nsbench.run.engines.scheduler import Ended, work_through
from nsbench.run.engines.slurm import OutOfTime, Slurm, Task
from nsbench.run.engines.slurm_settings import SlurmSettings
from nsbench.run.engines.work import Answer, Fit, Refused, Work

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'nsbench[slurm]'")
pytestmark = pytest.mark.timeout(600)  # on a busy machine


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str = "", style: str = "") -> None:
        self.lines.append(text)


def done_with(engine: Slurm, *works: Work) -> Written:
    book = Written()
    try:
        work_through(steps(works), engine, book)
    finally:
        engine.close()
    return book


def until(what: Callable[[], Any], seconds: float = 300) -> Any:
    """What it gives, as soon as that is something."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def marks(folder: Path) -> list[str]:
    return [path.name for path in (folder / "marks").glob("*")]


def folders(folder: Path) -> list[Path]:
    return list((folder / "results" / FOLDER).glob("*"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a scheduler."""
    places = [place for place in os.environ["PATH"].split(os.pathsep) if not (Path(place) / "sbatch").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(slurm_double.REPOSITORY), str(Path(slurm_double.__file__).parent)])
    )
    return tmp_path


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with the stand-in, whose queue is looked into all the time; what still runs in it ends with the test."""
    for name, value in slurm_double.install(tmp_path / "double").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(queues, "LOOKS", 0.2)
    monkeypatch.setattr(queues, "GRACE", 0.5)
    yield tmp_path
    for job in slurm_double.jobs():
        if (job / "state").read_text() in ("PENDING", "RUNNING"):
            slurm_double.end(job.name, "CANCELLED")


# --- processes of this machine -----------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_jobs_of_this_machine_store_what_one_process_stores(tmp_path: Path, here: Path) -> None:
    one, other = (tmp_path / name for name in ("one", "other"))
    grid, told = (("pretrained",), ("clean",)), Told()
    assert_done(run(options(one, *grid), SILENT), 1)
    assert_done(run(options(other, *grid, engine="slurm"), told), 1)
    assert_same_grid(one, other)
    assert (
        "no SLURM scheduler here (sbatch and srun are not on PATH): jobs run as processes of this machine" in told.lines
    )
    assert not (other / "results" / FOLDER).exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_chain_in_parts_is_that_of_one_process(tmp_path: Path, here: Path) -> None:
    one, other = (tmp_path / name for name in ("one", "other"))
    grid = (("pretrained", "finetune+random_noise"), ("clean", "fgsm"))
    assert_done(run(options(one, *grid), SILENT), 4)
    assert_done(run(options(other, *grid, engine="slurm", shard_images=12), SILENT), 4)
    assert_same_grid(one, other)
    assert_done(run(options(one, *grid, engine="slurm"), SILENT), 0, 4)


def test_a_job_that_is_killed_is_tried_again(here: Path) -> None:
    book = done_with(started(here, engine_doubles.killed_once), fit("a"))
    assert book.failed == {}
    assert isinstance(book.ended["a"], Fit)
    assert marks(here) == ["a"]
    ((jobs,), problems) = read_jobs(here / "results")
    assert problems == []
    assert [(one.what, one.state, one.why) for one in jobs.noted] == [
        ("the training of finetune (seed 0)", "failed", "its job ended without an answer (its process was killed)"),
        ("the training of finetune (seed 0)", "done", ""),
    ]
    assert not list(jobs.folder.glob("*.pkl"))


def test_what_is_no_answer_is_none(here: Path) -> None:
    engine = started(here, engine_doubles.gives_nothing)
    assert one_ended(engine, pair()).lost == "its job gave an answer that is none (NoneType)"
    engine.close()


def one_ended(engine: Slurm, work: Work) -> Ended[Answer]:
    """What becomes of its job."""
    submitted(engine, work)
    (ended,) = until(lambda: engine.wait(1.0))
    return ended


def test_jobs_get_the_weights_that_they_start_from(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "FITS", 1)
    engine = started(here, engine_doubles.weighed, settings=SETTINGS.model_copy(update={"max_jobs": 1}))
    assert one_ended(engine, pair("first", ("a", "b"))).value == Refused("a=of a b=of b")
    assert one_ended(engine, pair("second", ("c",))).value == Refused("c=of c")
    assert [path.name for path in (engine.book.folder / "weights").iterdir()] == ["c.pickle"]
    engine.close()
    assert not (engine.book.folder / "weights").exists()


def test_closing_ends_the_processes(here: Path) -> None:
    engine = started(here, engine_doubles.slow)
    submitted(engine, pair("a"), pair("b"))
    until(lambda: len(marks(here)) == 2)
    processes = [int(name.removeprefix("slow")) for name in marks(here)]
    engine.close()
    for process in processes:
        until(lambda: not Path(f"/proc/{process}").exists() or "Z" in state_of(process), 20)  # noqa: B023
    assert folders(here) == []


def state_of(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_job_that_is_told_to_make_room_starts_again(here: Path) -> None:
    """submitit's own signal, as a scheduler sends it."""
    engine = started(here, engine_doubles.slow_once)
    submitted(engine, pair())
    until(lambda: marks(here))
    (job,) = engine.flight
    os.kill(child_of(int(job)), signal.SIGUSR2)
    (ended,) = until(lambda: engine.wait(1.0))
    assert ended.value == Refused("done by the second")
    engine.close()


def child_of(process: int) -> int:
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


# --- the queue of SLURM ------------------------------------------------------------------------------------------------


def test_steps_that_are_ready_together_are_one_array(cluster: Path) -> None:
    settings = SlurmSettings(
        partition="gpu", account="vision", qos="high", time=90, gpus=1, cpus=6, memory=24, max_jobs=3,
        setup=("export FROM_SETUP=yes",),
    )  # fmt: skip
    engine = started(cluster, engine_doubles.weighed, settings=settings)
    assert engine.describe() == (
        "SLURM: at most 3 jobs at a time, each with partition gpu, account vision, qos high, 1 GPU, 6 CPU, 24 GB, "
        "at most 1:30:00"
    )
    book = done_with(engine, *(pair(name, (name,)) for name in "abc"))
    assert {key: getattr(answer, "why", "") for key, answer in book.ended.items()} == {
        name: f"{name}=of {name}" for name in "abc"
    }
    (asked,) = slurm_double.scripts()
    expected = {
        "array": "0-2%3", "job-name": engine.book.folder.name, "partition": "gpu", "account": "vision", "qos": "high",
        "time": "90", "gpus-per-node": "1", "cpus-per-task": "6", "mem": "24GB", "requeue": "", "signal": "USR2@90",
    }  # fmt: skip
    assert expected.items() <= asked.items()
    assert "export FROM_SETUP=yes" in next(slurm_double.root().glob("*.sh")).read_text()


def test_a_preempted_job_goes_back_into_the_queue(cluster: Path) -> None:
    engine = started(cluster, engine_doubles.slow_once)
    submitted(engine, fit())
    until(lambda: marks(cluster))
    slurm_double.tell("100", signal.SIGUSR2)
    (ended,) = until(lambda: engine.wait(1.0))
    assert ended.value == Refused("done by the second")
    assert (slurm_double.root() / "100" / "requeues").read_text() == "x"
    assert len(slurm_double.scripts()) == 1
    engine.close()


def test_a_pair_whose_time_is_used_up_is_named_with_what_to_do(cluster: Path) -> None:
    engine = started(cluster, engine_doubles.slow_once, settings=SETTINGS.model_copy(update={"time": 0}))
    submitted(engine, pair())
    until(lambda: marks(cluster))
    slurm_double.tell("100", signal.SIGUSR2)
    (ended,) = until(lambda: engine.wait(1.0))
    assert ended.value == Refused(
        "takes longer than the 0 s of its job; give more with --slurm time=H:MM:SS, or divide it with --shard-images N"
    )
    engine.close()


def test_a_training_goes_on_in_the_time_of_another_job(tmp_path: Path) -> None:
    def task(work: Work, seconds: float | None, left: int = 2) -> Task:
        began = None if seconds is None else time.monotonic() - seconds
        return Task(engine_doubles.slow, tmp_path, work, (), 60, left, began)

    for work in (fit(), pair()):
        for seconds in (None, 10.0, 3200.0):  # preempted
            assert task(work, seconds).checkpoint().function == task(work, None)
    assert task(fit(), 3400.0).checkpoint().function == task(fit(), None, left=1)
    with pytest.raises(OutOfTime, match=r"takes longer than the 60 min of its job; .*requeues=N"):
        task(fit(), 3400.0, left=0).checkpoint()
    with pytest.raises(OutOfTime, match=r"takes longer than the 60 min of its job; .*--shard-images N"):
        task(pair(), 3400.0).checkpoint()


def lost_with(cluster: Path, state: str, work: Work) -> Any:
    """What the engine makes of a job that ends in this state."""
    engine = started(cluster, engine_doubles.slow)
    submitted(engine, work)
    until(lambda: marks(cluster))
    slurm_double.end("100", state)
    (ended,) = until(lambda: engine.wait(1.0))
    engine.close()
    return ended


@pytest.mark.parametrize(
    ("state", "work", "words", "counts"),
    [
        ("OUT_OF_MEMORY", pair(), "its job used more memory than it had; give each more with --slurm memory=GB", True),
        ("PREEMPTED", pair(), "its job had to make room for another one", False),
        ("FAILED", fit(), "its job ended without an answer (FAILED)", True),
        ("TIMEOUT", fit(), "its job took longer than it may; give more with --slurm time=H:MM:SS", True),
    ],
)
def test_jobs_that_are_lost_are_tried_again(cluster: Path, state: str, work: Work, words: str, counts: bool) -> None:
    ended = lost_with(cluster, state, work)
    assert (ended.value, ended.lost, ended.counts) == (None, words, counts)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("TIMEOUT", "its job took longer than it may; give more with --slurm time=H:MM:SS"),
        ("CANCELLED by 1000", "its job was cancelled"),
    ],
)
def test_what_would_end_so_again_is_not(cluster: Path, state: str, words: str) -> None:
    assert lost_with(cluster, state, pair()).value == Refused(words)


def test_a_machine_that_cannot_do_the_work_gets_no_more_of_it(cluster: Path) -> None:
    told = Told()
    book = done_with(started(cluster, engine_doubles.troubled, told), pair())
    assert book.ended == {"identity": Refused("done elsewhere")}
    assert "node0 does no more work of this run: data are not here" in told.lines
    first, second = slurm_double.scripts()
    assert "exclude" not in first
    assert second["exclude"] == "node0"


def test_where_sbatch_takes_nothing_its_words_are_said(cluster: Path) -> None:
    (slurm_double.root() / "refuse").write_text("sbatch: error: invalid partition specified: gpu\n")
    with pytest.raises(
        UsageError,
        match=r"--engine slurm: sbatch takes no job \(sbatch: error: invalid partition specified: gpu\); correct what ",
    ):
        done_with(started(cluster, engine_doubles.weighed), pair())
    assert folders(cluster) == []


def test_where_sbatch_takes_no_more_now_it_is_asked_again(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "AGAIN", 0.5)
    refuse, told = slurm_double.root() / "refuse", Told()
    engine = started(cluster, engine_doubles.weighed, told)
    one_ended(engine, pair("a"))
    refuse.write_text("sbatch: error: QOSMaxSubmitJobPerUserLimit\n")
    submitted(engine, pair("b"))
    assert told.lines == [
        "sbatch takes no job now (sbatch: error: QOSMaxSubmitJobPerUserLimit); it is asked again in a minute"
    ]
    refuse.unlink()
    (ended,) = until(lambda: engine.wait(1.0))
    assert ended.key == "b"
    engine.close()


def test_closing_cancels_what_is_in_the_queue(cluster: Path) -> None:
    engine = started(cluster, engine_doubles.slow)
    submitted(engine, pair("a"), pair("b"))
    until(lambda: len(marks(cluster)) == 2)
    engine.close()
    assert [(job / "state").read_text() for job in slurm_double.jobs()] == ["CANCELLED by 0"] * 2
    assert folders(cluster) == []


def test_what_cannot_be_cancelled_is_said_and_left_for_the_next_command(cluster: Path) -> None:
    away, told = slurm_double.root() / "away", Told()
    away.write_text("scancel: error: Unable to contact slurm controller\n")
    engine = started(cluster, engine_doubles.slow, told)
    submitted(engine, pair("a"), pair("b"))
    until(lambda: len(marks(cluster)) == 2)
    engine.close()
    why = "scancel: error: Unable to contact slurm controller"
    assert told.lines == [f"its jobs could not be cancelled: {why}; the next command does it"]
    (left,) = folders(cluster)
    started(cluster, engine_doubles.weighed, told).close()
    assert told.lines[1:] == [f"{left.name}: jobs of a command that was killed are left alone: {why}"]
    assert folders(cluster) == [left]
    away.unlink()
    started(cluster, engine_doubles.weighed, told).close()
    assert told.lines[2:] == ["jobs of a command that was killed: 2 cancelled"]
    assert [(job / "state").read_text() for job in slurm_double.jobs()] == ["CANCELLED by 0"] * 2
    assert folders(cluster) == []


# --- commands that are killed, and nsbench status ----------------------------------------------------------------------


KILLED = """
import sys, time
from pathlib import Path
import engine_doubles
from slurm_jobs import pair, started, submitted
engine = started(Path(sys.argv[1]), engine_doubles.slow)
submitted(engine, pair("a"), pair("b"))
print("submitted", flush=True)
time.sleep(600)
"""


def killed_command(folder: Path) -> None:
    """A command whose jobs have begun is killed."""
    places = [Path(slurm_double.__file__).parent, slurm_double.REPOSITORY]
    own = {"PYTHONPATH": os.pathsep.join(map(str, places))}
    process = subprocess.Popen([sys.executable, "-c", KILLED, folder], stdout=subprocess.PIPE, env=os.environ | own)
    assert process.stdout
    assert process.stdout.readline() == b"submitted\n"
    until(lambda: len(marks(folder)) == 2)
    process.kill()
    process.communicate()


def status(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(main, ["status", "--results", str(folder / "results"), *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_jobs_of_a_killed_command_are_cancelled_by_the_next_one(cluster: Path) -> None:
    killed_command(cluster)
    (left,) = folders(cluster)
    told = Told()
    engine = started(cluster, engine_doubles.weighed, told)
    assert told.lines == ["jobs of a command that was killed: 2 cancelled"]
    assert [(job / "state").read_text() for job in slurm_double.jobs()] == ["CANCELLED by 0"] * 2
    assert folders(cluster) == [engine.book.folder]
    assert left != engine.book.folder
    assert started(cluster, engine_doubles.weighed, told).book.folder.exists()  # beside one that works
    assert engine.book.folder.exists()
    assert len(told.lines) == 1
    engine.close()


def test_processes_of_a_killed_command_end_with_the_next_one(here: Path) -> None:
    killed_command(here)
    processes = [int(name.removeprefix("slow")) for name in marks(here)]
    assert all(Path(f"/proc/{process}").exists() for process in processes)
    told = Told()
    started(here, engine_doubles.weighed, told).close()
    assert "jobs of a command that was killed: 2 cancelled" in told.lines
    for process in processes:
        until(lambda: not Path(f"/proc/{process}").exists() or state_of(process) == "Z", 20)  # noqa: B023
    assert folders(here) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_command_that_is_stopped_cancels_its_jobs(cluster: Path, number: int, code: int, word: str) -> None:
    (slurm_double.root() / "hold").touch()
    words = ["run", "--engine", "slurm", "--method", "pretrained", "--suite", "clean,fgsm", "--limit", "4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "nsbench", *words, "--device", "cpu", "--results", str(cluster / "results")],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: "0 running, 2 waiting, 0 failed, 0 done" in status(cluster))
        process.send_signal(number)
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == code, output
    assert output.splitlines()[-1].startswith(f"nsbench: {word}; 0 of 2 pairs are stored in ")
    assert [(job / "state").read_text() for job in slurm_double.jobs()] == ["CANCELLED by 0"] * 2
    assert not [path for path in (cluster / "results").rglob("*") if path.is_file()]
    assert folders(cluster) == []


def test_status_says_what_runs_and_waits(cluster: Path) -> None:
    engine = started(cluster, engine_doubles.slow)
    submitted(engine, pair("a"))
    until(lambda: marks(cluster))
    (slurm_double.root() / "hold").touch()
    submitted(engine, fit("b"))
    name = engine.book.folder.name
    head, running, waiting = status(cluster).splitlines()
    assert head == (
        f"{name} (process {os.getpid()} on {os.uname().nodename}, jobs of SLURM): 1 running, 1 waiting, 0 failed, 0 done"
    )
    assert running.startswith("  running  100  pretrained x clean (seed 0), on node0 for ")
    assert waiting == "  waiting  101  the training of finetune (seed 0): Priority"
    (slurm_double.root() / "hold").unlink()
    (told,) = json.loads(status(cluster, "--json"))["commands"]
    assert (told["name"], told["where"], told["sign"], told["done"]) == (name, "slurm", "works", 0)
    assert told["jobs"][0]["node"] == "node0"
    engine.close()


def test_status_says_what_failed_with_the_end_of_its_log(here: Path) -> None:
    engine = started(here, engine_doubles.raises)
    assert one_ended(engine, pair("a")).lost == "its job failed: of two lines"
    for over in (False, True):
        lines = status(here).splitlines()
        assert lines[0].endswith("processes of its machine): 0 running, 0 waiting, 1 failed, 0 done")
        assert (lines[1] == "  the command has ended; what failed is shown until the next one begins") == over
        failed = lines[2:] if over else lines[1:]
        assert failed[0].startswith("  failed  ")
        assert failed[0].endswith("  pretrained x clean (seed 0): its job failed: of two lines")
        assert [line.strip() for line in failed[-2:]] == ["ValueError: a mistake", "of two lines"]
        engine.close()


def test_status_of_a_killed_command(here: Path) -> None:
    killed_command(here)
    (folder,) = folders(here)
    os.utime(folder / "command.turn", (time.time() - 600, time.time() - 600))
    lines = status(here).splitlines()
    assert lines[1].startswith("  the command has given no sign of life for 10 min; started again it cancels ")
    assert [line.split()[0] for line in lines[2:]] == ["running", "running"]
    started(here, engine_doubles.weighed).close()


def test_status_where_nothing_is(tmp_path: Path) -> None:
    line = (
        f"no jobs: {tmp_path}/results holds none of a run with --engine slurm; one that went well leaves none behind\n"
    )
    assert status(tmp_path) == line
    assert json.loads(status(tmp_path, "--json")) == {"commands": [], "problems": []}


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b'{"where": "elsewhere"}', b"[" * 100_000])
def test_status_names_what_it_cannot_read(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "results" / FOLDER / "nsbench-1"
    folder.mkdir(parents=True)
    (folder / "command").write_bytes(content)
    assert status(tmp_path).startswith(f"problem: {folder}: is no folder of jobs (command: ")


def test_a_line_of_the_book_that_was_not_finished_is_none(here: Path) -> None:
    engine = started(here, engine_doubles.weighed)
    engine.book.note("1", "something", "submitted")
    with (engine.book.folder / "jobs.jsonl").open("ab") as file:
        file.write(b'{"job": "1", "wha')
    assert "  ended  1  something: has ended" in status(here)
    engine.close()


def test_results_do_not_see_the_folder_of_jobs(here: Path) -> None:
    engine = started(here, engine_doubles.weighed, settings=SETTINGS)
    engine._kept("key")
    assert read_results(here / "results") == ([], [])
    engine.close()


def test_without_submitit_its_name_gives_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        UsageError, match=r"--engine slurm: the package submitit is not installed .*pip install 'nsbench\[slurm\]'"
    ):
        started(tmp_path, engine_doubles.weighed)
    assert not (tmp_path / "results").exists()


def test_what_a_job_needs_is_known_without_torch() -> None:
    """It is imported where work is done."""
    code = "import sys, engine_doubles, nsbench.run.engines.slurm, nsbench.cli.status; sys.exit('torch' in sys.modules)"
    places = os.pathsep.join([str(slurm_double.REPOSITORY), str(Path(slurm_double.__file__).parent)])
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": places}).returncode == 0
