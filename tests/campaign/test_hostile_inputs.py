"""Every file that nsbench reads, broken in many ways: one line or a listed problem, no hang, no other figure in silence.

A quick part runs with the other tests. The whole campaign, 2,000 inputs and more: pytest -m slow tests/campaign
"""

from __future__ import annotations

import shutil
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hostile_readers import READERS, Reader
from mutations import in_time

from nsbench.errors import NsbenchError

QUICK, WHOLE = 6, 66  # inputs of each reader


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the files, with a cache inside that nobody else writes to."""
    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.setenv("NSBENCH_CACHE", str(folder / "cache"))
    return folder


def outcome(reader: Reader, path: Path) -> object:
    """The figure, or "refused"."""
    with in_time(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, on what they meet
        try:
            return reader.read(path)
        except NsbenchError as error:
            message = str(error)
    assert message
    assert "\n" not in message
    return "refused"


def campaign(reader: Reader, given: Path, seeds: range) -> Counter[str]:
    """What became of the inputs. Raises what no reader may raise, naming the input."""
    path = reader.make(given)
    kept = given.with_name("kept")
    shutil.copytree(given, kept)
    content, whole, found = path.read_bytes(), outcome(reader, path), Counter[str]()
    assert whole != "refused"
    for seed in seeds:
        shutil.rmtree(given)
        shutil.copytree(kept, given)
        draws = np.random.default_rng([seed, len(content) % 1000])
        changed = reader.mutations[int(draws.integers(len(reader.mutations)))](content, draws)
        if changed == content:
            continue
        path.write_bytes(changed)
        try:
            figure = outcome(reader, path)
        except Exception as error:
            error.add_note(f"{reader.name}, seed {seed}")
            raise
        if reader.sealed:
            told = isinstance(figure, str | None)  # a line that says what is wrong, or None: made again
            assert told or figure == whole, f"{reader.name}, seed {seed}: another figure in silence"
        found["refused" if figure == "refused" else "read"] += 1
    return found


@pytest.mark.parametrize("reader", READERS, ids=lambda one: one.name)
def test_some_hostile_files(given: Path, reader: Reader) -> None:
    campaign(reader, given, range(QUICK))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("reader", READERS, ids=lambda one: one.name)
def test_many_hostile_files(given: Path, reader: Reader, record_property: pytest.RecordProperty) -> None:
    found = campaign(reader, given, range(QUICK, WHOLE))
    record_property("inputs", dict(found))
    print(f"\n{reader.name}: {dict(found)}")
