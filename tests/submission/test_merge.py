"""Merging: nothing that is there is replaced, and no damage crashes the check before it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from submissions import STEM, as_npz, edited, outcomes, problems, put, rewritten, store, with_npz

from nsbench import registry
from nsbench.cli import main
from nsbench.errors import ResultError
from nsbench.results import read_outcomes, read_results
from nsbench.submission import check_archive, merge, open_archive, pack


def snapshot(folder: Path):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_merging_adds_what_is_new_and_leaves_what_is_there(packed, tmp_path):
    target = tmp_path / "board"
    merged = merge(packed.path, target)
    assert [path.name for path in merged.added] == ["clean.seed0.json", "fgsm.seed0.json"]
    results, broken = read_results(target)
    assert not broken
    assert all(read_outcomes(result) for result in results)
    before = snapshot(target)
    again = merge(packed.path, target)
    assert (again.added, len(again.held)) == ((), 2)
    assert snapshot(target) == before


def test_held_results_that_cannot_be_read_are_named_and_nothing_is_merged(packed, tmp_path):
    """A check against fewer results would let more through, and nobody would know."""
    target = tmp_path / "board"
    stored = store(target, method="madry")
    stored.path.write_text("{")
    told = CliRunner().invoke(main, ["submit", "check", str(packed.path), "--results", str(target)])
    assert (told.exit_code, f"not held against: {stored.path}: is no complete result" in told.output) == (1, True)
    before = snapshot(target)
    with pytest.raises(ResultError, match=r"board: what it holds cannot be compared .*: is no complete result"):
        merge(packed.path, target)
    assert snapshot(target) == before
    stored.path.unlink()
    assert len(merge(packed.path, target).added) == 2


def test_a_mistyped_results_folder_is_refused(packed, tmp_path, monkeypatch):
    told = CliRunner().invoke(main, ["submit", "check", str(packed.path), "--results", str(tmp_path / "typo")])
    assert told.exit_code == 2
    assert f"--results {tmp_path / 'typo'}: is no folder" in str(told.exception or told.output) + told.output
    monkeypatch.chdir(tmp_path)  # which has no reports/results
    assert CliRunner().invoke(main, ["submit", "check", str(packed.path)]).exit_code == 0


def another(provenance):
    """Of weights that another recipe gave."""
    recipe = replace(provenance.recipe, settings={"steps": 7})
    return replace(provenance, recipe=recipe, weights_digest="1" * 16, fit_key="2" * 16)


def test_another_measurement_of_the_same_name_stands_beside(packed, tmp_path):
    target = tmp_path / "board"
    store(target, change=lambda r: replace(r, identity="f" * 16, provenance=another(r.provenance)))
    before = snapshot(target)
    merged = merge(packed.path, target)
    assert len(merged.added) == 2
    assert snapshot(target).items() >= before.items()
    assert len([r for r in read_results(target)[0] if r.suite == "fgsm"]) == 2


def test_the_same_outcomes_in_another_format_are_no_conflict(packed, tmp_path):
    """Of a result that was computed again by another version, or with another pyarrow: other bytes, nothing else."""
    conditions = registry.suites["fgsm"].conditions()
    plain = {
        c.name: replace(outcomes(c, k), label_probability=None, confidence=None, top5=None)
        for k, c in enumerate(conditions)
    }
    score = registry.suites["fgsm"].score(plain)
    content = as_npz(plain)
    path = with_npz(edited(packed.path, put("extra", dict(score.extra), "score")), content)
    assert problems(path) == ()
    merged = merge(path, tmp_path / "results")
    assert (merged.added, len(merged.held)) == ((), 2)


def test_a_conflict_or_a_problem_adds_nothing(packed, tmp_path):
    target = tmp_path / "board"
    store(target, measure=lambda c, seed: outcomes(c, seed + 50))
    before = snapshot(target)
    with pytest.raises(ResultError, match=r"same measurement .* with other outcomes"):
        merge(packed.path, target)
    assert snapshot(target) == before
    wrong = edited(packed.path, put("value", 99.0, "score"))
    with pytest.raises(ResultError, match=r"says 99\.0000"):
        merge(wrong, tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_crashes_the_check(tmp_path_factory, data):
    """Whatever bytes are changed, the answer is a list of problems or one clear error."""
    folder = tmp_path_factory.mktemp("damage")
    store(folder / "results", "clean")
    path = pack(folder / "results", folder / "x.zip").path
    path.write_bytes(damaged(data, path.read_bytes()))
    try:
        lines = check_archive(path).problems
    except ResultError as error:
        lines = (str(error),)
    assert all("\n" not in line for line in lines)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_under_fitting_digests_crashes_the_check(tmp_path_factory, data):
    """Somebody who makes every digest anew reaches the readers of JSON and of outcomes."""
    folder = tmp_path_factory.mktemp("damage")
    store(folder / "results", "clean")
    path = pack(folder / "results", folder / "x.zip").path
    stem, files = STEM.replace("fgsm", "clean"), open_archive(path).files
    if data.draw(st.booleans()):
        content = damaged(data, files[f"{stem}.parquet"])
        record = json.loads(files[f"{stem}.json"]) | {"outcomes_sha256": hashlib.sha256(content).hexdigest()}
        rewritten(path, **{f"{stem}.parquet": content, f"{stem}.json": json.dumps(record).encode()})
    else:
        rewritten(path, **{f"{stem}.json": damaged(data, files[f"{stem}.json"])})
    assert all(line.isprintable() for line in check_archive(path).problems)


def damaged(data, content):
    """Some bytes changed, the end cut off."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed[: data.draw(st.integers(1, len(changed)))])
