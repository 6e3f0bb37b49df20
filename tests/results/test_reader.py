"""The reader of outcomes for tables: what it shares, what it holds, what it refuses."""

from __future__ import annotations

from pathlib import Path

import boards
import made
import numpy as np
import pytest
from boards import N, flags, outcomes

from nsbench.errors import ResultError
from nsbench.results import Result, outcomes_path, read_outcomes, read_results, reader, store, write_result
from nsbench.results.reader import EXTRA, OutcomesReader
from nsbench.types import Outcomes

FROZEN = Path(__file__).parents[1] / "frozen" / "schema1_first"


def attacked(folder: Path, method: str) -> Result:
    """Two conditions on the same images, of which the second was attacked."""
    plain = outcomes(flags(0.7, 0))
    norms = np.arange(N, dtype=np.float32)
    extra = {"predictions_clean": plain.predictions, "linf": norms, "steps": np.arange(N)}
    hit = Outcomes(plain.ids, plain.labels, np.ones(N, dtype=np.int64), extra)
    return made.stored(folder, {"clean": plain, "eps": hit}, method=method, identity=method)


def test_results_on_the_same_images_share_them(tmp_path: Path) -> None:
    one, two = attacked(tmp_path, "a"), attacked(tmp_path, "b")
    mine = OutcomesReader()
    first, second = mine.rows(one), mine.rows(two)
    assert first["clean"].images is first["eps"].images is second["eps"].images
    ids = mine.outcomes(one, ["eps"])["eps"].ids
    assert mine.common(ids, mine.outcomes(two, ["clean"])["clean"].ids)[0].tolist() == list(range(N))
    assert ids is second["clean"].images.ids


def test_only_predictions_and_the_extra_columns_that_were_asked_for_are_read(tmp_path: Path) -> None:
    result = attacked(tmp_path, "a")
    found = OutcomesReader().outcomes(result, ["clean", "eps"])
    whole = read_outcomes(result)
    assert (set(found["clean"].extra), set(found["eps"].extra)) == (set(), {"predictions_clean", "linf"})
    for name, one in found.items():
        np.testing.assert_array_equal(one.predictions, whole[name].predictions)
        np.testing.assert_array_equal(one.labels, whole[name].labels)
        assert one.predictions.dtype == np.int64
    np.testing.assert_array_equal(found["eps"].extra["linf"], whole["eps"].extra["linf"])
    assert set(OutcomesReader(("steps",)).outcomes(result, ["eps"])["eps"].extra) == {"steps"}


def test_predictions_alone_are_read_where_no_more_is_asked_for(tmp_path: Path) -> None:
    result = attacked(tmp_path, "a")
    mine = OutcomesReader()
    alone = mine.outcomes(result, ["clean", "eps"], beside=False)
    assert [dict(one.extra) for one in alone.values()] == [{}, {}]
    whole = mine.outcomes(result, ["eps"])["eps"]
    assert set(whole.extra) == {"predictions_clean", "linf"}
    np.testing.assert_array_equal(alone["eps"].predictions, whole.predictions)
    assert "linf" in mine.rows(result, beside=False)["eps"].columns, "what is held is not read again with less"


def test_the_last_files_are_held_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [attacked(tmp_path, f"m{k}") for k in range(4)]
    opened: list[str] = []

    def content(result: Result) -> bytes:
        opened.append(result.method)
        return outcomes_path(result).read_bytes()

    monkeypatch.setattr(reader, "HELD", 3)
    monkeypatch.setattr(store, "outcomes_content", content)
    mine = OutcomesReader()
    for result in (results[0], results[1], results[0], results[2], results[3], results[0], results[1]):
        mine.rows(result)
    assert opened == ["m0", "m1", "m2", "m3", "m1"]  # m0 was used again before m3 came, m1 was not


def test_images_are_common_by_id_in_any_order(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(N)
    one = boards.store(tmp_path, "a", "clean", flags(0.5, 0))
    two = boards.store(tmp_path, "b", "clean", flags(0.5, 0)[:150], order=order[order < 150])
    mine = OutcomesReader()
    ids, others = (mine.outcomes(result, ["clean"])["clean"].ids for result in (one, two))
    at_one, at_other = mine.common(ids, others)
    assert len(at_one) == 150
    np.testing.assert_array_equal(ids[at_one], others[at_other])


def test_results_of_schema_1_are_read_alike() -> None:
    for result in read_results(FROZEN)[0]:
        assert result.outcomes_format == "npz"
        whole = read_outcomes(result)
        found = OutcomesReader().outcomes(result, list(whole))
        for name, one in found.items():
            np.testing.assert_array_equal(one.ids, whole[name].ids)
            np.testing.assert_array_equal(one.predictions, whole[name].predictions)
            assert set(one.extra) == set(whole[name].extra) & set(EXTRA)


def test_what_is_no_file_of_the_result_is_refused_by_its_path(tmp_path: Path) -> None:
    result = attacked(tmp_path, "a")
    other = write_result(tmp_path, result, {"other": outcomes(flags(0.5, 0))})
    with pytest.raises(
        ResultError, match=r"clean\.seed0\.outcomes\.\w+\.parquet: holds other conditions than the result lists"
    ):
        OutcomesReader().rows(other)
    outcomes_path(other).write_bytes(b"half")
    with pytest.raises(ResultError, match=r"clean\.seed0\.outcomes\.\w+\.parquet: differs from the digest"):
        OutcomesReader().rows(other)
    with pytest.raises(ResultError, match="cannot be read"):  # replaced meanwhile
        OutcomesReader().rows(result)
    with pytest.raises(ResultError, match="has not been stored"):
        OutcomesReader().rows(made.result())
