"""What jobs of SLURM ask for: from pyproject.toml and from options, each wrong one named in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nsbench.cli import main
from nsbench.errors import UsageError
from nsbench.progress import SILENT
from nsbench.run.engines import require_possible, run
from nsbench.run.engines.queues import sbatch_parameters
from nsbench.run.engines.slurm_settings import SlurmSettings, slurm_settings
from nsbench.run.options import RunOptions

PROJECT = """
[tool.nsbench.slurm]
partition = "gpu"
account = "vision"
time = "1-12:30:00"
gpus = 1
memory = 32
setup = ["module load cuda"]
"""


def asked(slurm: dict[str, str] | None = None, **fields: Any) -> RunOptions:
    return RunOptions(("pretrained",), ("clean",), engine="slurm", slurm=slurm or {}, **fields)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose project states settings; one is inside a folder of it."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    return tmp_path / "pyproject.toml"


@pytest.mark.parametrize(
    ("given", "minutes"),
    [
        ("90", 90), ("90:00", 90), ("90:01", 91), ("4:00:00", 240), ("0:30:30", 31),
        ("2-0", 2880), ("1-06:30", 1830), ("1-00:00:01", 1441), (" 30 ", 30),
    ],
)  # fmt: skip
def test_times_are_those_of_sbatch(given: str, minutes: int) -> None:
    """man sbatch: minutes, minutes:seconds, hours:minutes:seconds, days-hours, with minutes, with seconds."""
    assert slurm_settings(asked({"time": given})).time == minutes


def test_the_project_is_asked_and_options_win() -> None:
    stated = SlurmSettings(partition="gpu", account="vision", time=2190, gpus=1, memory=32, setup=("module load cuda",))
    assert slurm_settings(asked()) == stated
    given = slurm_settings(asked({"partition": "long", "setup": "module load gcc"}, task_memory=8.5, task_gpus=2.0))
    assert given == stated.model_copy(
        update={"partition": "long", "setup": ("module load gcc",), "memory": 8.5, "gpus": 2}
    )


def test_without_a_project_there_are_defaults(project: Path) -> None:
    project.unlink()
    assert slurm_settings(asked()) == SlurmSettings()
    assert SlurmSettings().filled(1).describe() == "1 GPU, 4 CPU, at most 4:00:00"
    assert SlurmSettings(cpus=2).filled(0).describe() == "2 CPU, at most 4:00:00"


@pytest.mark.parametrize(
    ("slurm", "fields", "words"),
    [
        ({"partitoin": "gpu"}, {}, r"--slurm partitoin=gpu: is no setting; known: partition, account, qos, .*setup"),
        ({"time": "soon"}, {}, "--slurm time=soon: give minutes, H:MM:SS or D-HH:MM:SS"),
        ({"time": "2"}, {}, "--slurm time=2: Input should be greater than or equal to 5"),
        ({"gpus": "0.5"}, {}, "--slurm gpus=0.5: Input should be a valid integer"),
        ({"memory": "nan"}, {}, "--slurm memory=nan: "),
        ({"partition": "gpu\n#SBATCH --wrap"}, {}, "--slurm partition=gpu\n.*: String should match"),
        ({}, {"task_gpus": 0.5}, "--task-gpus 0.5: Input should be a valid integer"),
        ({"gpus": "2"}, {"task_gpus": 1.0}, "--slurm gpus=2 and --task-gpus 1: give one of them"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(slurm: dict[str, str], fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        slurm_settings(asked(slurm, **fields))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[tool.nsbench.slurm]\ntime = "never"', r"\[tool.nsbench.slurm\] time = 'never': give minutes, "),
        ("[tool.nsbench.slurm]\nnodes = 4", r"\[tool.nsbench.slurm\] nodes = 4: is no setting; known: "),
        ('[tool.nsbench]\nslurm = "gpu"', r"\[tool.nsbench\] slurm must be a table, such as "),
        ("[tool.nsbench", "cannot be read"),
        ("tool = 3", "cannot be read"),
    ],
)
def test_a_wrong_project_file_is_named(project: Path, text: str, words: str) -> None:
    project.write_text(text)
    with pytest.raises(UsageError, match=f"pyproject.toml: {words}"):
        slurm_settings(asked())


def test_what_sbatch_is_told() -> None:
    settings = SlurmSettings(partition="gpu", qos="high", constraint="a100|h100", memory=16, max_jobs=7).filled(1)
    told = {name: value for name, value in sbatch_parameters(settings, "a-name").items() if value is not None}
    assert told == {
        "name": "a-name", "timeout_min": 240, "cpus_per_task": 4, "gpus_per_node": 1, "mem_gb": 16.0,
        "slurm_partition": "gpu", "slurm_qos": "high", "slurm_constraint": "a100|h100", "slurm_array_parallelism": 7,
        "slurm_additional_parameters": {"requeue": True},
    }  # fmt: skip


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_settings_go_with_their_engine_alone(engine: str) -> None:
    options = RunOptions(("pretrained",), ("clean",), engine=engine, slurm={"partition": "gpu"})
    with pytest.raises(UsageError, match="--slurm partition=gpu: goes with --engine slurm"):
        run(options, SILENT)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"device": "cuda:1"}, "--device cuda:1: a job has GPUs of its own; give auto, cuda or cpu"),
        ({"log": "wandb"}, "--log wandb: does not go with --engine slurm"),
    ],
)
def test_what_no_job_can_do_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        require_possible(asked(**fields))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--engine", "slurm", "--slurm", "gpu"],
            "nsbench: --slurm gpu: write KEY=VALUE, such as --slurm partition=gpu",
        ),
        (["--engine", "slurm", "--slurm", "nodes=2", "--dry-run"], "nsbench: --slurm nodes=2: is no setting; known: "),
        (["--engine", "slurm", "--slurm", "nodes=2"], "nsbench: --slurm nodes=2: is no setting; known: "),
        (["--engine", "slrum"], "nsbench: --engine slrum: give local, slurm, ray, or ray://ADDRESS, such as "),
    ],
)
def test_a_wrong_option_is_one_line(words: list[str], said: str, project: Path) -> None:
    done = CliRunner().invoke(main, ["run", "--method", "pretrained", "--suite", "clean", *words])
    assert done.exit_code == 2
    assert done.output.startswith(said)
    assert done.output.count("\n") == 1


def test_a_dry_run_says_what_jobs_ask_for() -> None:
    words = [
        "run",
        "--method",
        "pretrained",
        "--suite",
        "clean",
        "--limit",
        "4",
        "--engine",
        "slurm",
        "--slurm",
        "max_jobs=8",
    ]
    done = CliRunner().invoke(main, [*words, "--dry-run", "--no-measure"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == (
        "  at most 8 jobs of SLURM at a time, each with partition gpu, account vision, 1 GPU, 4 CPU, 32 GB, at most "
        "36:30:00"
    )
