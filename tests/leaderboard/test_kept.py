"""What earlier boards found saves work, and changes nothing else: whatever became of the files and of the cache."""

import contextlib
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boards import flags, outcomes, store

from nsbench.errors import ResultError
from nsbench.leaderboard import Kept, build, kept_file
from nsbench.leaderboard.kept_file import KeptFile
from nsbench.leaderboard.outcomes import Reader
from nsbench.report import read_board
from nsbench.results import outcomes_path, parquet_reading, read_result, read_results, write_result
from nsbench.results.store import parse_result, path_of, to_json
from nsbench.types import Composition, Score

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def results(tmp_path):
    """Two methods on four suites, one of two seeds, one suite without a composition; one row is flagged."""
    folder = tmp_path / "results"
    for number, method in enumerate(("finetune", "ns")):
        for seed in (0, 1)[: 2 - number]:
            for place, suite in enumerate(("clean", "imagenet_c", "imagenet_v2")):
                store(folder, method, suite, flags(0.5 + 0.1 * place, 10 * number + seed), seed=seed)
            store(folder, method, "own", flags(0.4, 3), seed=seed, score=Score(40.0, 30.0, 50.0, 200))
    store(folder, "ns", "damagenet", flags(0.95, 1))
    return folder


def kept_path() -> Path:
    return Path(os.environ["NSBENCH_CACHE"]) / "boards" / "verdicts.sqlite"


def plain(folder: Path):
    return build(*read_results(folder))


def edited(statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(kept_path())) as file, file:
        assert file.execute(statement, values).rowcount > 0


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """Grows with each file of outcomes that is decoded."""
    sizes: list[int] = []
    opened = parquet_reading._opened
    monkeypatch.setattr(
        parquet_reading, "_opened", lambda content, wanted: sizes.append(len(content)) or opened(content, wanted)
    )
    return sizes


def test_a_second_board_is_the_same_and_decodes_nothing(results, decoded) -> None:
    expected = plain(results)
    assert any(row.flags for row in expected.tables[0].rows)
    assert read_board(results) == expected
    decoded.clear()
    again = read_board(results)
    assert again == expected
    assert decoded == []
    for one, other in zip(again.tables[0].pairs.values(), expected.tables[0].pairs.values(), strict=True):
        np.testing.assert_array_equal(one.p, other.p)


def test_only_what_is_new_is_decoded(results, decoded) -> None:
    read_board(results)
    store(results, "trades", "clean", flags(0.3, 5))
    decoded.clear()
    assert read_board(results) == plain(results)
    assert len(decoded) == 1 + len(read_results(results)[0])  # and all of them without what is kept


def test_recalled_and_read_results_are_on_the_same_images(results) -> None:
    """Other images than the kept ones in the same column: as ever they are not compared."""
    read_board(results)
    store(results, "trades", "clean", flags(0.3, 5), order=np.random.default_rng(0).permutation(200))
    store(results, "madry", "clean", flags(0.3, 5)[:150])
    board = read_board(results)
    assert board == plain(results)
    (table,) = [one for one in board.tables if any(row.method == "madry" for row in one.rows)]
    apart = {row.method: row.cells["clean"].unpaired or row.cells["clean"].reason for row in table.rows}
    assert apart["trades"] == ""
    assert apart["madry"]


def test_outcomes_that_changed_since_are_found(results) -> None:
    read_board(results)
    stored = read_result(next(results.rglob("clean.seed0.json")))
    path = outcomes_path(stored)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    board = read_board(results)
    assert board == plain(results)
    assert any("differs from the digest" in line for line in board.problems)
    path.unlink()
    assert read_board(results) == plain(results)
    assert any("cannot be read" in line for line in read_board(results).problems)


def test_a_result_that_changed_since_is_verified_anew(results) -> None:
    read_board(results)
    path = path_of(read_result(next(results.rglob("clean.seed0.json"))))
    (condition,) = read_result(path).conditions
    text = path.read_text()
    path.write_text(text.replace(f'"accuracy": {condition.accuracy}', '"accuracy": 12.5'))
    board = read_board(results)
    assert board == plain(results)
    assert any("says accuracy 12.5" in line for line in board.problems)


def test_a_result_that_is_not_its_file_is_not_looked_up(results) -> None:
    stored = read_result(next(results.rglob("clean.seed0.json")))
    assert stored.file_sha256
    assert replace(stored, title="Another").file_sha256 == ""
    assert write_result(results, stored, {"clean": outcomes(flags(0.5, 0))}).file_sha256 == ""
    text = path_of(stored).read_text().rstrip().removesuffix("}")
    with pytest.raises(ResultError, match="file_sha256"):
        parse_result(f'{text}, "file_sha256": "00"}}'.encode())


def test_another_program_finds_everything_anew(results, decoded, monkeypatch) -> None:
    read_board(results)
    decoded.clear()
    monkeypatch.setattr(kept_file, "program", lambda: "another")
    assert read_board(results) == plain(results)
    assert len(decoded) == 2 * len(read_results(results)[0])
    decoded.clear()
    assert read_board(results) == plain(results)
    assert len(decoded) == len(read_results(results)[0])


def test_the_program_is_its_code_and_the_packages(monkeypatch) -> None:
    here = kept_file.program()
    assert kept_file.program.__wrapped__() == here
    monkeypatch.setattr(kept_file, "version", lambda package: "0")
    assert kept_file.program.__wrapped__() != here


DAMAGES = {
    "another mean": lambda: edited("update verdicts set added = zeroblob(length(added)) where accuracy"),
    "too short": lambda: edited("update verdicts set added = substr(added, 1, 8)"),
    "of another type": lambda: edited("update verdicts set added = 5"),
    "images are gone": lambda: edited("delete from images"),
    "images are others": lambda: edited("update images set ids = 'clean/0'"),
    "flags are no JSON": lambda: edited("update flags set raised = '{'"),
    "flags are others": lambda: edited("""update flags set raised = '[{"name": 1}]'"""),
    "no table": lambda: edited_schema("drop table verdicts"),
    "other columns": lambda: edited_schema("alter table verdicts add column more int"),
    "half a file": lambda: kept_path().write_bytes(kept_path().read_bytes()[:6000]),
    "no database": lambda: kept_path().write_bytes(b"nothing of the kind" * 1000),
    "empty": lambda: kept_path().write_bytes(b""),
}


def edited_schema(statement: str) -> None:
    with contextlib.closing(sqlite3.connect(kept_path())) as file, file:
        file.execute(statement)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_cache_costs_time_alone(results, damage) -> None:
    expected = plain(results)
    read_board(results)
    damage()
    assert read_board(results) == expected
    assert read_board(results) == expected


@pytest.mark.parametrize("damage", ["no database", "half a file", "no table"])
def test_a_damaged_cache_is_replaced(results, damage, decoded) -> None:
    read_board(results)
    DAMAGES[damage]()
    read_board(results)
    decoded.clear()
    read_board(results)
    assert decoded == []


def test_a_folder_or_a_held_file_in_its_place(results, monkeypatch) -> None:
    expected = plain(results)
    kept_path().mkdir(parents=True)
    assert read_board(results) == expected
    kept_path().rmdir()
    read_board(results)
    store(results, "trades", "clean", flags(0.3, 5))
    monkeypatch.setattr(kept_file, "PATIENCE", 0.1)
    with contextlib.closing(sqlite3.connect(kept_path(), isolation_level=None)) as other:
        other.execute("begin exclusive")
        assert read_board(results) == plain(results)


def test_without_a_cache_folder_there_is_a_board(results, monkeypatch) -> None:
    monkeypatch.setenv("NSBENCH_CACHE", "~nobody-of-this-name/cache")
    assert read_board(results) == plain(results)


def test_what_no_board_asks_for_is_forgotten(results, decoded, monkeypatch) -> None:
    read_board(results)
    day = time.time() + 86400 * (kept_file.DAYS - 1)
    monkeypatch.setattr(kept_file.time, "time", lambda: day)
    for path in results.rglob("imagenet_v2*"):
        path.unlink()
    store(results, "trades", "clean", flags(0.3, 5))  # something to write, and so to note what was asked for
    read_board(results)
    monkeypatch.setattr(kept_file.time, "time", lambda: day + 2 * 86400)
    store(results, "madry", "clean", flags(0.3, 6))
    read_board(results)
    with contextlib.closing(sqlite3.connect(kept_path())) as file:
        held = file.execute("select count(*) from verdicts").fetchone()[0]
    assert held == len(read_results(results)[0])
    decoded.clear()
    read_board(results)
    assert decoded == []


def test_nothing_is_kept_of_a_result_with_a_problem(results) -> None:
    stored = read_result(next(results.rglob("clean.seed0.json")))
    score = replace(stored.score, made_of=Composition({"other": 100.0}, "right"))
    path_of(stored).write_bytes(to_json(replace(stored, score=score)))
    wrong = read_result(path_of(stored))
    kept = Kept(KeptFile(kept_path()))
    assert "was not evaluated" in kept.problem(wrong, Reader())
    kept.save()
    assert not kept_path().exists()
