"""kill -9 at every rename and removal of every command that writes: nothing lost, nothing wrong, nothing left over."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from campaign import CASES, Campaign, Case
from forks import Forks

KILLS = int(os.environ.get("NSBENCH_KILLS", "100"))  # at random moments, of the long campaign, over all commands
by_name = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@by_name
def test_some_moments(case: Case, forks: Forks, tmp_path: Path) -> None:
    campaign = Campaign(case, forks, tmp_path)
    assert campaign.moments >= 2
    for moment in range(1, campaign.moments + 1, case.few):
        assert campaign.kill(moment)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@by_name
def test_every_moment_and_random_ones(case: Case, forks: Forks, tmp_path: Path) -> None:
    campaign, random = Campaign(case, forks, tmp_path), Random(case.name)
    killed = [campaign.kill(moment) for moment in range(1, campaign.moments + 1)]
    by_chance: list[bool] = []
    wanted = KILLS // len(CASES) + 1
    while sum(by_chance) < wanted and len(by_chance) < 5 * wanted:  # some end before they are killed
        by_chance.append(campaign.kill(after=random.uniform(0, campaign.seconds)))
    print(f"{case.name}: {len(killed)} moments, {sum(by_chance)} of {len(by_chance)} killed at random")
