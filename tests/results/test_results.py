"""The results folder: what is written comes back, nothing is replaced by another measurement, damage is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nsbench.errors import ResultError
from nsbench.results import Result, ensure_writable, find_result, read_result, read_results, write_result
from nsbench.types import Outcomes, Score


def outcomes(n: int = 5, offset: int = 0) -> Outcomes:
    return Outcomes(
        ids=np.array([f"clean/ä{k:05d}" for k in range(n)]),
        labels=np.arange(n) % 3,
        predictions=(np.arange(n) + offset) % 3,
        extra={"l2": np.linspace(0, 1, n), "predictions_uint8": np.arange(n) % 300},
    )


def result(**changes: object) -> Result:
    plain = Result(
        source="shapes10",
        model="vit",
        method="ns",
        suite="fgsm",
        seed=0,
        score=Score(60.0, 50.0, 70.0, 5, {"accuracy eps 2/255": 40.0}),
        unit="%",
        lower_is_better=False,
        title="FGSM",
        group="adversarial",
        order=30,
        paper=True,
        suite_version=1,
        summary="one step",
        citation="Goodfellow 2015",
        method_title="NS",
        method_summary="noise",
        method_order=3,
        conditions=[{"name": "a"}, {"name": "b"}],
        provenance={"date": "2026-01-01"},
        identity="0123456789abcdef",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_round_trip(tmp_path: Path) -> None:
    stored = {"a": outcomes(), "b": outcomes(offset=1)}
    path = write_result(tmp_path, result(), stored)
    assert path == tmp_path / "shapes10" / "vit" / "ns" / "fgsm.seed0.json"
    back = read_result(path)
    assert replace(back, outcomes_sha256="") == result()
    for name, outcome in back.outcomes().items():
        np.testing.assert_array_equal(outcome.ids, stored[name].ids)
        np.testing.assert_array_equal(outcome.predictions, stored[name].predictions)
        np.testing.assert_array_equal(outcome.correct, stored[name].correct)
        np.testing.assert_allclose(outcome.extra["l2"], stored[name].extra["l2"], rtol=1e-6)
        np.testing.assert_array_equal(outcome.extra["predictions_uint8"], stored[name].extra["predictions_uint8"])


def test_json_holds_what_is_promised(tmp_path: Path) -> None:
    record = json.loads(write_result(tmp_path, result(), {"a": outcomes(), "b": outcomes()}).read_text())
    assert {"schema", "source", "model", "method", "suite", "seed", "score", "conditions", "provenance"} <= set(record)
    assert {"value", "low", "high", "n", "unit", "lower_is_better"} <= set(record["score"])


def test_a_colon_in_a_model_s_name_is_in_no_path_and_older_folders_are_found(tmp_path: Path) -> None:
    both, zoo = {"a": outcomes(), "b": outcomes()}, result(model="robustbench:Salman2020Do_R50:Linf")
    asked = ("shapes10", zoo.model, "ns", "fgsm", 0, zoo.identity)
    path = write_result(tmp_path, zoo, both)
    assert path == tmp_path / "shapes10" / "robustbench@Salman2020Do_R50@Linf" / "ns" / "fgsm.seed0.json"
    found = find_result(tmp_path, *asked)
    assert found is not None
    assert found.model == zoo.model
    path.parents[1].rename(tmp_path / "shapes10" / zoo.model)  # where older versions put it
    found = find_result(tmp_path, *asked)
    assert found is not None
    assert found.path == tmp_path / "shapes10" / zoo.model / "ns" / "fgsm.seed0.json"


def test_another_measurement_stands_beside(tmp_path: Path) -> None:
    both = {"a": outcomes(), "b": outcomes()}
    first = write_result(tmp_path, result(), both)
    second = write_result(tmp_path, result(identity="f" * 16), both)
    assert first != second
    assert first.is_file()
    assert write_result(tmp_path, result(), both) == first, "the same measurement replaces itself"
    for identity, path in (("0123456789abcdef", first), ("f" * 16, second)):
        found = find_result(tmp_path, "shapes10", "vit", "ns", "fgsm", 0, identity)
        assert found is not None
        assert found.path == path
    assert find_result(tmp_path, "shapes10", "vit", "ns", "fgsm", 0, "0" * 16) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema": 1}', '{"schema": 99}', '{"schema": "x"}', "\x00\xff"])
def test_damaged_files_are_named_and_left_out(tmp_path: Path, damage: str) -> None:
    good = write_result(tmp_path, result(), {"a": outcomes(), "b": outcomes()})
    bad = good.with_name("cw.seed0.json")
    bad.write_text(damage, encoding="latin-1")
    found, problems = read_results(tmp_path)
    assert [item.suite for item in found] == ["fgsm"]
    assert len(problems) == 1
    assert str(bad) in problems[0]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_scores_that_are_no_numbers_are_refused(tmp_path: Path, value: str) -> None:
    path = write_result(tmp_path, result(), {"a": outcomes(), "b": outcomes()})
    path.write_text(path.read_text().replace('"value": 60.0', f'"value": {value}'))
    with pytest.raises(ResultError, match="finite"):
        read_result(path)


def test_changed_outcomes_are_refused(tmp_path: Path) -> None:
    path = write_result(tmp_path, result(), {"a": outcomes(), "b": outcomes()})
    packed = path.with_suffix(".npz")
    packed.write_bytes(packed.read_bytes()[:-1] + b"x")
    with pytest.raises(ResultError, match="differs from the digest"):
        read_result(path).outcomes()


def test_a_broken_result_is_written_again_under_its_plain_name(tmp_path: Path) -> None:
    both = {"a": outcomes(), "b": outcomes()}
    path = write_result(tmp_path, result(), both)
    path.write_text("{")
    assert find_result(tmp_path, "shapes10", "vit", "ns", "fgsm", 0, "0123456789abcdef") is None
    assert write_result(tmp_path, result(), both) == path
    assert read_result(path).identity == "0123456789abcdef"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="--results"):
        ensure_writable(tmp_path / "file" / "results")


def test_no_half_written_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(ResultError, match="No space left"):
        write_result(tmp_path, result(), {"a": outcomes(), "b": outcomes()})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
