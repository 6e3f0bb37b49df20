"""What may happen to a cluster: workers and machines die, memory and disks are full, the command is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import engine_doubles
import pytest
from ray_clusters import REPOSITORY, add_node, cluster
from test_equal import SHORT, assert_done, assert_same_grid, options, stored

from nsbench import results
from nsbench.files import cache_folder
from nsbench.progress import SILENT, Progress
from nsbench.run.engines import run
from nsbench.run.engines.cluster import Cluster
from nsbench.run.engines.driver import run_with
from nsbench.run.options import RunOptions
from nsbench.run.runner import Summary

pytest.importorskip("ray", reason="Ray is not installed: pip install 'nsbench[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
GRID = (("pretrained", "finetune"), ("clean", "fgsm"))


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str = "", style: str = "") -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with cluster(2, 1) as made:
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored result for doubles."""
    folder = tmp_path_factory.mktemp("template")
    assert_done(run(options(folder / "made", ("pretrained",), ("clean",)), SILENT), 1)
    (one,) = stored(folder / "made").values()
    assert one.path
    (folder / "template.json").write_bytes(one.path.read_bytes())
    (folder / "template.parquet").write_bytes(results.outcomes_content(one))
    return folder


@pytest.fixture
def template(tmp_path: Path, made: Path) -> Path:
    """Where doubles find it."""
    for name in ("template.json", "template.parquet"):
        shutil.copy(made / name, tmp_path)
    return tmp_path


def run_double(asked: RunOptions, perform: Callable[..., Any], progress: Progress = SILENT) -> Summary:
    return run_with(partial(Cluster, asked, perform=perform), asked, progress)


def on(nodes: Any, folder: Path, *grid: Sequence[str], **fields: Any) -> RunOptions:
    return options(folder, *map(tuple, grid or GRID), engine=f"ray://{nodes.address}", **fields)  # type: ignore[arg-type]


def test_workers_that_are_killed_change_nothing(tmp_path: Path, nodes: Any) -> None:
    """One in a training, one in an evaluation: real work, compared with that of one process."""
    here, there = (tmp_path / name for name in ("here", "there"))
    assert_done(run(options(here, *GRID), SILENT), 4)
    assert_done(run_double(on(nodes, there), engine_doubles.killed_in_each), 4)
    assert len(list((there / "marks").iterdir())) == 2
    assert_same_grid(here, there)


def test_a_training_that_kills_its_workers_is_named_and_the_rest_goes_on(template: Path, nodes: Any) -> None:
    summary = run_double(on(nodes, template), engine_doubles.killed_always)
    assert len(summary.done) == 2
    assert {(pair.method, pair.suite): why for pair, why in summary.failed.items()} == {
        ("finetune", "clean"): "its worker was killed",
        ("finetune", "fgsm"): "its worker was killed",
    }


def test_a_full_disk_of_one_machine_is_avoided(template: Path, nodes: Any) -> None:
    told = Told()
    seeds = tuple(range(4))
    summary = run_double(on(nodes, template, seeds=seeds), engine_doubles.full_on_one, told)
    assert_done(summary, 16)
    assert [line for line in told.lines if "no more work" in line] == [
        "node1 does no more work of this run: /cache: cannot keep the fitted weights (No space left on device)"
    ]


def test_a_machine_that_is_removed_loses_nothing(template: Path, nodes: Any) -> None:
    third = add_node(nodes)
    removed: list[bool] = []

    class Removes(Told):
        def event(self, kind: str, text: str, *rest: Any, **others: Any) -> None:
            if kind == "pair" and not removed:
                removed.append(True)
                nodes.remove_node(third, allow_graceful=False)

    asked = on(nodes, template, seeds=tuple(range(8)))
    assert_done(run_double(asked, engine_doubles.asleep, Removes()), 32)
    assert removed
    assert len(results.read_results(template / "results")[0]) == 32


COMMAND = ("run", "--method", "pretrained,finetune", "--suite", "clean,fgsm", "--limit", "20", "--recipe", "quick")


def cache_of(folder: Path) -> Path:
    """Fitted weights of its own; pictures that took a minute to make are everybody's."""
    cache, made = folder / "cache", cache_folder() / "shapes10"
    made.mkdir(parents=True, exist_ok=True)
    if not cache.exists():
        cache.mkdir()
        (cache / "shapes10").symlink_to(made.absolute(), target_is_directory=True)
    return cache


def start(nodes: Any, folder: Path) -> subprocess.Popen[str]:
    words = [word for name, value in SHORT.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "nsbench", *COMMAND, *words, "--engine", f"ray://{nodes.address}"]
    own = {"NSBENCH_CACHE": str(cache_of(folder)), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [*command, "--device", "cpu", "--results", str(folder / "results")],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **own}, start_new_session=True,
    )  # fmt: skip


def first_stored(folder: Path) -> None:
    end = time.monotonic() + 600
    while not list((folder / "results").rglob("*.seed0.json")):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_command_that_is_killed_goes_on_where_it_was(tmp_path: Path, nodes: Any) -> None:
    process = start(nodes, tmp_path)
    first_stored(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    held = len(stored_pairs(tmp_path))
    again = start(nodes, tmp_path)
    output, _ = again.communicate(timeout=900)
    assert again.returncode == 0, output
    assert f"{4 - held} done, {held} held already, 0 missing, 0 failed" in output
    assert len(stored_pairs(tmp_path)) == 4


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_command_that_is_stopped_says_what_is_stored(
    tmp_path: Path, nodes: Any, number: int, status: int, word: str
) -> None:
    process = start(nodes, tmp_path)
    first_stored(tmp_path)
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == status, output
    stored_now = len(stored_pairs(tmp_path))
    assert output.splitlines()[-1].startswith(f"nsbench: {word}; {stored_now} of 4 pairs are stored in ")
    assert not list(tmp_path.rglob("*.turn"))


def stored_pairs(folder: Path) -> set[tuple[str, str]]:
    found, problems = results.read_results(folder / "results")
    assert problems == []
    return {(one.method, one.suite) for one in found}
