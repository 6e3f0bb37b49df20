"""The process that the campaign's commands are forks of."""

from collections.abc import Iterator

import pytest
from forks import Forks

from nsbench.files import cache_folder
from nsbench.progress import SILENT
from nsbench.shapes10 import make


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    for split in ("clean", "train"):
        make.ensure(split, SILENT)
    with Forks(cache_folder()) as started:
        yield started
