"""The results folder: what is written comes back, nothing is replaced by another measurement, damage is named."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pytest

from nsbench.errors import ResultError
from nsbench.files import write_atomically
from nsbench.results import (
    SCHEMA,
    AttackCard,
    Found,
    NoiseOfRound,
    OutputCheck,
    Result,
    Round,
    Stage,
    ensure_writable,
    find_result,
    note_available,
    outcomes_path,
    read_outcomes,
    read_result,
    read_results,
    samples_path,
    store,
    write_result,
)
from nsbench.results.samples import pack_samples
from nsbench.types import Composition, Outcomes, Score, ThreatModel


def outcomes(n: int = 5, offset: int = 0) -> Outcomes:
    return Outcomes(
        ids=np.array([f"clean/ä{k:05d}" for k in range(n)]),
        labels=np.arange(n) % 3,
        predictions=(np.arange(n) + offset) % 3,
        extra={"l2": np.linspace(0, 1, n), "predictions_uint8": np.arange(n) % 300},
    )


BOTH = {"a": outcomes(), "b": outcomes(offset=1)}


def result(**changes: object) -> Result:
    plain = {"suite": "fgsm", "model": "vit", "identity": "0123456789abcdef", "score": Score(60.0, 50.0, 70.0, 5)}
    return made.result(**(plain | {"conditions": (made.condition("a"), made.condition("b"))} | changes))


def test_round_trip(tmp_path: Path) -> None:
    written = write_result(tmp_path, result(), BOTH)
    assert written.path == tmp_path / "shapes10" / "vit" / "ns" / "fgsm.seed0.json"
    back = read_result(written.path)
    assert back == written
    assert replace(back, outcomes_sha256="") == result()
    for name, outcome in read_outcomes(back).items():
        np.testing.assert_array_equal(outcome.ids, BOTH[name].ids)
        np.testing.assert_array_equal(outcome.predictions, BOTH[name].predictions)
        np.testing.assert_array_equal(outcome.correct, BOTH[name].correct)
        np.testing.assert_allclose(outcome.extra["l2"], BOTH[name].extra["l2"], rtol=1e-6)
        np.testing.assert_array_equal(outcome.extra["predictions_uint8"], BOTH[name].extra["predictions_uint8"])


def test_every_field_of_the_record_comes_back(tmp_path: Path) -> None:
    card = AttackCard(4, 1.0, 1.5, 0.25, 1, 4, "numpy 2", 3, 2, "margin", "the image")
    noise = NoiseOfRound(30.5, 0.1, 0.02, 7, True)
    round_ = Round(1, 20, 1e-4, {"clean": 0.5}, noise, {"fgsm": 71.5}, 900, 1.5, 2.5, 32, "ns")
    full = result(
        score=Score(60.0, 50.0, 70.0, 5, {"accuracy eps 2/255": 40.0}, Composition({"a": 100.0}, "right")),
        conditions=(
            made.condition("a", attack="fgsm", threat=ThreatModel("linf", 4 / 255), attack_card=card),
            made.condition("b", params={"steps": 3, "lr": 0.5, "restarts": True, "start": None, "range": (1, 2.5)}),
        ),
        recipe=made.recipe("quick", 3, crop_scale=(0.6, 1.0), compile=False, precision="float32"),
        history=(round_,),
        lineage=(Stage("ns", "f" * 16),),
        outputs=OutputCheck(8, False, 1e-7),
    )
    written = write_result(tmp_path, full, BOTH)
    back = read_result(written.path)
    assert back == written
    assert back.conditions[0].threat == ThreatModel("linf", 4 / 255)
    assert [type(value) for value in back.conditions[1].params.values()] == [int, float, bool, type(None), tuple]


def test_a_wrong_type_names_the_file_and_the_field(tmp_path: Path) -> None:
    path = write_result(tmp_path, result(), BOTH).path
    text = path.read_text()
    for place, old, new in [
        ("conditions.0.accuracy", '"accuracy": 50.0', '"accuracy": "high"'),
        ("provenance.history", '"history": []', '"history": 3'),
        ("provenance.limit", '"limit": null', '"limit": "all"'),
        ("surprise", '"seed": 0', '"seed": 0, "surprise": 1'),
    ]:
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(ResultError, match=rf"{path}: is no complete result \({place}"):
            read_result(path)


def test_json_begins_with_its_schema(tmp_path: Path) -> None:
    record = json.loads(write_result(tmp_path, result(), BOTH).path.read_text())
    assert next(iter(record.items())) == ("schema", SCHEMA)
    assert "path" not in record
    assert {"source", "model", "method", "suite", "seed", "score", "unit", "conditions", "provenance"} <= set(record)


def test_json_in_another_order_or_form_is_the_same_result(tmp_path: Path) -> None:
    stored = write_result(tmp_path, result(), BOTH)
    path = stored.path
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps(dict(sorted(record.items()))))
    assert read_result(path) == stored
    del record["schema"]
    path.write_text(json.dumps(record))
    with pytest.raises(ResultError, match="is no complete result"):
        read_result(path)


def test_a_colon_in_a_model_s_name_is_in_no_path_and_older_folders_are_found(tmp_path: Path) -> None:
    zoo = result(model="robustbench:Salman2020Do_R50:Linf")
    asked = ("shapes10", zoo.model, "ns", "fgsm", 0, zoo.identity)
    path = write_result(tmp_path, zoo, BOTH).path
    assert path == tmp_path / "shapes10" / "robustbench@Salman2020Do_R50@Linf" / "ns" / "fgsm.seed0.json"
    found = find_result(tmp_path, *asked).result
    assert found is not None
    assert found.model == zoo.model
    path.parents[1].rename(tmp_path / "shapes10" / zoo.model)  # where older versions put it
    found = find_result(tmp_path, *asked).result
    assert found is not None
    assert found.path == tmp_path / "shapes10" / zoo.model / "ns" / "fgsm.seed0.json"


def test_another_measurement_stands_beside(tmp_path: Path) -> None:
    first = write_result(tmp_path, result(), BOTH).path
    second = write_result(tmp_path, result(identity="f" * 16), BOTH).path
    assert first != second
    assert first.is_file()
    assert write_result(tmp_path, result(), BOTH).path == first, "the same measurement replaces itself"
    for identity, path in (("0123456789abcdef", first), ("f" * 16, second)):
        found = find_result(tmp_path, "shapes10", "vit", "ns", "fgsm", 0, identity).result
        assert found is not None
        assert found.path == path
    assert find_result(tmp_path, "shapes10", "vit", "ns", "fgsm", 0, "0" * 16) == Found()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema": 1}', '{"schema": 99}', '{"schema": "x"}', "\x00\xff"])
def test_damaged_files_are_named_and_left_out(tmp_path: Path, damage: str) -> None:
    good = write_result(tmp_path, result(), BOTH).path
    bad = good.with_name("cw.seed0.json")
    bad.write_text(damage, encoding="latin-1")
    found, problems = read_results(tmp_path)
    assert [item.suite for item in found] == ["fgsm"]
    assert len(problems) == 1
    assert str(bad) in problems[0]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_scores_that_are_no_numbers_are_refused(tmp_path: Path, value: str) -> None:
    path = write_result(tmp_path, result(), BOTH).path
    path.write_text(path.read_text().replace('"value": 60.0', f'"value": {value}'))
    with pytest.raises(ResultError, match="finite"):
        read_result(path)


def test_changed_outcomes_are_refused(tmp_path: Path) -> None:
    written = write_result(tmp_path, result(), BOTH)
    packed = outcomes_path(written)
    packed.write_bytes(packed.read_bytes()[:-1] + b"x")
    with pytest.raises(ResultError, match="differs from the digest"):
        read_outcomes(written)


ASKED = ("shapes10", "vit", "ns", "fgsm", 0, "0123456789abcdef")


def test_what_cannot_be_read_is_never_replaced(tmp_path: Path) -> None:
    path = write_result(tmp_path, result(), BOTH).path
    newer = path.read_text().replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}')
    path.write_text(newer)
    found = find_result(tmp_path, *ASKED)
    assert found.result is None
    assert f"{path}: schema {SCHEMA + 1} is newer than this nsbench knows" in found.problem
    beside = write_result(tmp_path, result(), BOTH)
    assert path.read_text() == newer
    assert beside.path == path.with_suffix(".0123456789abcdef.json")
    assert find_result(tmp_path, *ASKED).result == beside
    beside.path.write_text(newer)
    with pytest.raises(ResultError, match="is newer than this nsbench knows"):  # before the work
        find_result(tmp_path, *ASKED)
    with pytest.raises(ResultError, match="is newer than this nsbench knows"):
        write_result(tmp_path, result(), BOTH)
    assert beside.path.read_text() == newer


@pytest.mark.parametrize("schema", [0, -1, 1.5])
def test_a_schema_that_never_was_is_named(tmp_path: Path, schema: float) -> None:
    path = write_result(tmp_path, result(), BOTH).path
    path.write_text(path.read_text().replace(f'"schema": {SCHEMA}', f'"schema": {schema}'))
    with pytest.raises(ResultError, match=rf"{path}: schema {schema} is none .* \(1 to {SCHEMA}\); delete it and run"):
        read_result(path)


@pytest.mark.parametrize("damage", ["cut short", "changed", "gone"])
def test_a_result_without_its_outcomes_is_not_held(tmp_path: Path, damage: str) -> None:
    written = write_result(tmp_path, result(), BOTH)
    packed = outcomes_path(written)
    content = packed.read_bytes()
    packed.write_bytes({"cut short": content[:-9], "changed": content[:-1] + b"x", "gone": b""}[damage])
    if damage == "gone":
        packed.unlink()
    found = find_result(tmp_path, *ASKED)
    assert found.result is None
    assert str(packed) in found.problem
    assert write_result(tmp_path, result(), BOTH) == written
    assert find_result(tmp_path, *ASKED).result == written


def old_names(stored: Result) -> None:
    """The names that a result's parts had before the outcomes' digest was in them."""
    outcomes_path(stored).rename(stored.path.with_suffix(".parquet"))
    samples_path(stored).rename(stored.path.with_suffix(".samples.zip"))


def test_parts_under_their_former_names_are_read_and_replaced(tmp_path: Path) -> None:
    pictures = pack_samples("0123456789abcdef", {"a": []}, ["cat"])
    written = write_result(tmp_path, result(), BOTH, pictures)
    beside = write_result(tmp_path, result(identity="f" * 16), BOTH, pictures)
    for one in (written, beside):
        old_names(one)
        assert find_result(tmp_path, *ASKED[:-1], one.identity).result == one
        assert read_outcomes(one).keys() == BOTH.keys()
        assert samples_path(one).read_bytes() == pictures
    write_result(tmp_path, result(), BOTH, pictures)
    digest = written.outcomes_sha256[:16]
    assert {path.name for path in written.path.parent.iterdir()} == {
        "fgsm.seed0.json",
        f"fgsm.seed0.outcomes.{digest}.parquet",
        f"fgsm.seed0.samples.{digest}.zip",
        *(f"fgsm.seed0.{'f' * 16}.{ending}" for ending in ("json", "parquet", "samples.zip")),
    }


def test_one_measurement_with_other_bits_is_replaced_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number of threads gives other float bits; a kill before the last rename keeps the first run's files."""
    pictures = pack_samples("0123456789abcdef", {"a": []})
    first = write_result(tmp_path, result(), BOTH, pictures)
    norms = {"l2": np.linspace(0, 1, 5) + 1e-7}
    other = {name: replace(one, extra=one.extra | norms) for name, one in BOTH.items()}

    def killed(path: Path, content: bytes) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        write_atomically(path, content)

    monkeypatch.setattr(store, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        write_result(tmp_path, result(), other, pictures)
    monkeypatch.undo()
    assert find_result(tmp_path, *ASKED).result == first
    assert len(list(first.path.parent.iterdir())) == 5
    ensure_writable(tmp_path)
    assert len(list(first.path.parent.iterdir())) == 3
    assert read_outcomes(first).keys() == BOTH.keys()
    second = write_result(tmp_path, result(), other, pictures)
    assert second.outcomes_sha256 != first.outcomes_sha256
    assert find_result(tmp_path, *ASKED).result == second
    assert len(list(first.path.parent.iterdir())) == 3


def test_a_folder_of_many_results_is_listed_once_and_what_a_kill_left_there_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before the JSON left outcomes of seed 3 with other bits."""
    folder = tmp_path / "shapes10" / "vit" / "ns"
    folder.mkdir(parents=True)
    (folder / f"fgsm.seed3.outcomes.{'0' * 16}.parquet").write_bytes(b"half of a run")
    listed: list[object] = []
    really = os.listdir
    monkeypatch.setattr("os.listdir", lambda path: listed.append(path) or really(path))
    for seed in range(6):
        assert write_result(tmp_path, replace(result(), seed=seed), BOTH).path.parent == folder
    assert len(listed) == 2  # at first, and for the result that may have had parts
    assert len(list(folder.iterdir())) == 12


def test_the_number_of_images_is_noted_once_and_not_in_what_another_process_replaced(tmp_path: Path) -> None:
    stale = write_result(tmp_path, result(), BOTH)
    noted = note_available(stale, [50, 60])
    assert [one.available for one in noted.conditions] == [50, 60]
    assert read_result(stale.path) == noted
    assert note_available(noted, [1, 1]) is noted
    other = write_result(tmp_path, result(), {name: outcomes(offset=2) for name in BOTH})
    assert note_available(stale, [50, 60]) == other
    assert read_result(stale.path) == other


def test_beside_what_cannot_be_read_nothing_is_removed(tmp_path: Path) -> None:
    path = write_result(tmp_path, result(), BOTH).path
    path.with_suffix(f".outcomes.{'0' * 16}.parquet").write_bytes(b"a newer version's")
    path.write_text("{")
    ensure_writable(tmp_path)
    assert len(list(path.parent.iterdir())) == 3


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="--results"):
        ensure_writable(tmp_path / "file" / "results")


def test_no_half_written_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(ResultError, match="No space left"):
        write_result(tmp_path, result(), BOTH)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.timeout(30)
def test_pipes_among_the_results_are_named_and_not_waited_for(tmp_path: Path) -> None:
    stored = made.stored(tmp_path, {"clean": outcomes()})
    os.mkfifo(tmp_path / "pipe.json")
    path = outcomes_path(stored)
    found, problems = read_results(tmp_path)
    assert [one.method for one in found] == ["ns"]
    assert len(problems) == 1
    assert "pipe.json: cannot be read" in problems[0]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ResultError, match="cannot be read"):
        read_outcomes(stored)


def test_files_that_reports_leave_in_the_folder_are_no_broken_results(tmp_path: Path) -> None:
    (tmp_path / ".nsbench-site.json").write_text("[]")
    (tmp_path / "leaderboard.json").write_text('{"format": 5, "problems": [], "tables": []}')
    assert read_results(tmp_path) == ([], [])
    (tmp_path / "leaderboard.json").write_text('{"format": 5, "problems": [], "tables": [], "more": 1}')
    assert "is no complete result" in read_results(tmp_path)[1][0]
