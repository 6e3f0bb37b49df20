"""Processes that store results of one name at the same moment: none is lost, none has another's outcomes."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from campaign import listing
from forks import Forks, Job, outcomes_of

from nsbench.results import Result, read_outcomes, read_results, samples_path

RACES = int(os.environ.get("NSBENCH_RACES", "200"))  # of the long campaign
FEW = 9


def job(folder: Path, number: int, bits: int, kill: int = 0) -> Job:
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    return Job(str(folder), write=(f"{number:016x}", str(bits)), kill=kill)


def whole(folder: Path) -> dict[str, Result]:
    """By identity. Each has the outcomes of its identity, and there is no file but the three of each."""
    results, problems = read_results(folder / "results")
    assert not problems
    found = {one.identity: one for one in results}
    assert len(found) == len(results), "a measurement is there twice"
    for identity, one in found.items():
        mine = read_outcomes(one)["clean"]
        possible = [outcomes_of(identity, str(bits)) for bits in range(8)]
        assert any((mine.extra["l2"] == each.extra["l2"]).all() for each in possible)
        assert (mine.predictions == possible[0].predictions).all()
        assert samples_path(one).is_file()
    names = listing(folder)
    assert len(names) == 3 * len(results), names
    return found


def race(forks: Forks, folder: Path, random: Random, processes: int) -> None:
    """Other measurements and the same one with other bits, mixed."""
    entrants = [(random.randrange(1, processes + 1), bits) for bits in range(processes)]
    ended = forks.run(*(job(folder, *each) for each in entrants))
    assert [one.status for one in ended] == [0] * processes, [one.output for one in ended]
    assert set(whole(folder)) == {f"{number:016x}" for number, _ in entrants}
    assert (folder / "results/shapes10/vit_shapes10/ns/clean.seed0.json").is_file(), "the first has the plain name"


def race_with_a_kill(forks: Forks, folder: Path, random: Random, processes: int) -> None:
    """One of them is killed on its way; whoever comes next clears up after it."""
    entrants = [(number, 0) for number in range(1, processes + 1)]
    ended = forks.run(*(job(folder, *each, kill=random.randrange(1, 9) if each[0] == 1 else 0) for each in entrants))
    assert [one.status for one in ended[1:]] == [0] * (processes - 1), [one.output for one in ended]
    (last,) = forks.run(job(folder, 1, 0))
    assert last.status == 0, last.output
    assert set(whole(folder)) == {f"{number:016x}" for number, _ in entrants}


def races(forks: Forks, tmp_path: Path, count: int) -> None:
    random = Random(count)
    for number in range(count):
        run = race_with_a_kill if number % 3 == 2 else race
        run(forks, tmp_path / str(number), random, (2, 4)[number % 2])


def test_a_few_races(forks: Forks, tmp_path: Path) -> None:
    races(forks, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_races(forks: Forks, tmp_path: Path) -> None:
    races(forks, tmp_path, RACES)
