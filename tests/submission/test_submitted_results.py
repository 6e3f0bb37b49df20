"""The form of a submitted result and every figure in it: what cannot be is named, a line each."""

from pathlib import Path

import pytest
from submissions import STEM, edited, problems, put, rewritten, store

from nsbench import registry
from nsbench.results import read_outcomes, read_results
from nsbench.submission import check_archive, merge, open_archive, pack

FROZEN = Path(__file__).parents[1] / "frozen"
CARD = {"images": 4, "forwards": 1.0, "backwards": 1.0, "seconds": 0.1}
UNKNOWN = "no known set and no held result has the images"
ROUND = {"round": 1, "step": 20, "lr": 0.001, "losses": {}}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (put("value", 99.0, "score"), "says 99.0000 %, and its outcomes give"),
        (put("low", 1.0, "score"), "says the interval 1.0000 to"),
        (put("n", 41, "score"), "says n = 41, and its outcomes have 40"),
        (put("accuracy eps 2/255", 3.0, "score", "extra"), "says 'accuracy eps 2/255' is 3.0000"),
        (put("made up", 3.0, "score", "extra"), "states 'made up', which the suite does not measure"),
        (put("lower_is_better", True), "lower_is_better is 'True'"),
        (put("made_of", None, "score"), "is made of its outcomes in another way"),
        (put("counts", "wrong", "score", "made_of"), "is made of its outcomes in another way"),
        (put("weights", {"eps 1/255": 50.0}, "score", "made_of"), "is made of its outcomes in another way"),
        (put("weights", {"eps 1/255": "all"}, "score", "made_of"), "score.made_of.weights.eps 1/255"),
        (put("method_role", "control"), "method_role is 'control', and that of 'ns' is 'subject'"),
        (put("method_role", "winner"), "method_role: 'winner' is none of"),
        (put("accuracy", 99.0, "conditions", 0), "says accuracy 99 and its outcomes have"),
        (put("n", 41, "conditions", 0), "1,000 images were available, and has 41 of them"),
        (put("n", 39, "conditions", 1), "1,000 images were available, and has 39 of them"),
        (put("split", "a", "conditions", 0), "split is 'a', and the suite's is 'clean'"),
        (put("eps", 0.1 / 255, "conditions", 0, "threat"), "threat is 'linf 0.1/255', and the suite's is 'linf 1/255'"),
        (put("eps", 2 / 255, "conditions", 0, "threat"), "threat is 'linf 2/255', and the suite's is 'linf 1/255'"),
        (put("threat", "linf 1/255", "conditions", 0), "conditions.0.threat"),
        (
            put("patches", 3, "conditions", 0, "threat"),
            "threat is 'linf 1/255, 3 patches', and the suite's is 'linf 1/255'",
        ),
        (put("seconds", 1e300, "provenance"), "larger than any count"),
        (put("beforehand", {"norm": "linf"}, "conditions", 0), "beforehand is 'linf unbounded', and the suite's is"),
        (put("data_digest", "x", "conditions", 0), "conditions.0.data_digest: 'x' is not a digest"),
        (put("params", {"steps": 0}, "conditions", 0), "params is"),
        (put("suite_version", 7), "is of version 7 of the suite"),
        (put("title", "FGSM <b>"), "holds markup"),
        (put("method_title", "<script>alert(1)</script>"), "holds markup"),
        (put("method_summary", "a\x1b[31mb"), "control or invisible characters"),
        (put("method_summary", "a\u202eb"), "control or invisible characters"),
        (put("method_summary", "x" * 5000), "5,000 characters"),
        (put("name", "<img src=x>", "provenance", "recipe"), "holds markup"),
        (put("method", "../../x"), "method: '../../x' is not a name"),
        (put("method", "madry"), "stands in another place"),
        (put("seed", 1), "stands in another place"),
        (put("seed", "0"), "seed: Input should be a valid integer"),
        (put("seed", 10**30), "larger than any count"),
        (put("identity", "x"), "identity"),
        (put("seconds", "soon", "provenance"), "provenance.seconds"),
        (put("fit_seconds", -1.0, "provenance"), "provenance.fit_seconds"),
        (put("history", "long", "provenance"), "provenance.history"),
        (put("history", [ROUND | {"losses": {"clean": "0.3"}}], "provenance"), "provenance.history.0.losses.clean"),
        (put("history", [ROUND | {"noise": {"norm": 1.0}}], "provenance"), "history.0.noise.mse_probability_held_out"),
        (put("lineage", ["madry"], "provenance"), "provenance.lineage.0"),
        (put("outputs", {"images": "many"}, "provenance"), "provenance.outputs.images"),
        (put("attack_card", {"images": 4, "forwards": 1.0}, "conditions", 0), "conditions.0.attack_card.backwards"),
        (put("attack_card", CARD | {"images": 41}, "conditions", 0), "counts 0 of 0 of 41 of 40 images"),
        (put("attack_card", CARD | {"steps": "all"}, "conditions", 0), "conditions.0.attack_card.steps"),
        (put("limit", 0, "provenance"), "provenance.limit"),
        (put("limit", -5, "provenance"), "provenance.limit"),
        (put("available", 30, "conditions", 0), "30 images were available, and has 40 of them with a limit of 40"),
        (put("surprise", 1), "surprise: "),
        (put("surprise", 1, "conditions", 1), "conditions.1.surprise: "),
        (put("outcomes_format", "pickle"), "outcomes_format"),
        (put("conditions", []), "conditions"),
        (put("weights_digest", None, "provenance"), "provenance.weights_digest"),
        (put("outcomes_sha256", "0" * 64), "differs from the digest in its result"),
        (put("schema", 99), "schema"),
        (put("history", [[[[[[[[[[1]]]]]]]]]], "provenance"), "deeper than any result"),
    ],
)
def test_what_cannot_be_is_named(packed, change, problem):
    found = problems(edited(packed.path, change))
    assert found, problem
    assert any(problem in line for line in found), found
    assert all(line.startswith(f"{STEM}.json: ") and line.isprintable() for line in found)


def test_the_bound_of_a_patch_is_the_suite_s(tmp_path):
    store(tmp_path / "results", "patchfool_bounded")
    path, stem = pack(tmp_path / "results", tmp_path / "x.zip").path, STEM.replace("fgsm", "patchfool_bounded")
    assert problems(path) == ()
    (line,) = problems(edited(path, put("eps", 1.0, "conditions", 0, "threat"), stem))
    assert "threat is '1 patch within 1', and the suite's is '1 patch within 0.12549'" in line


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"1",
        b"null",
        b'{"score": NaN}',
        b'{"a": 1, "a": 2}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"value": 1e999}',
    ],
)
def test_json_that_is_no_result_is_a_problem_and_not_a_crash(packed, content):
    found = problems(rewritten(packed.path, **{f"{STEM}.json": content}))
    assert found
    assert all(line.isprintable() for line in found)


def test_a_suite_that_is_not_known_cannot_be_checked(tmp_path, monkeypatch):
    store(tmp_path / "results")
    path = pack(tmp_path / "results", tmp_path / "x.zip").path
    monkeypatch.delitem(registry.suites._items, "fgsm")
    monkeypatch.setattr(registry, "load_content", lambda: None)
    assert "suite 'fgsm' is not known here" in problems(path)[0]


def test_results_and_outcomes_come_in_pairs(packed):
    content = open_archive(packed.path).files[f"{STEM}.json"]
    assert "has no outcomes (.parquet)" in problems(rewritten(packed.path, **{f"{STEM}.parquet": None}))[-1]
    changed = {f"{STEM}.npz": b"x", f"{STEM}.json": content}
    assert f"{STEM}.npz: has no result beside it" in problems(rewritten(packed.path, **changed))
    changed = {f"{STEM}.npz": None, f"{STEM}.parquet": b"x", f"{STEM}.json": None}
    assert problems(rewritten(packed.path, **changed)) == (f"{STEM}.parquet: has no result beside it",)


@pytest.mark.parametrize("name", sorted(folder.parent.name for folder in FROZEN.glob("*/shapes10")))
def test_archives_of_frozen_results_pass(tmp_path, name):
    """What each version wrote; schema 1: threats as text, arrays of outcomes, no role and no composition."""
    path = pack(FROZEN / name, tmp_path / "old.zip").path
    assert {Path(member).suffix for member in open_archive(path).files} == {
        ".json",
        ".npz" if name.startswith("schema1") else ".parquet",
    }
    # frost and motion blur come out otherwise on other processors than the one that the digests were published from
    unknown = name.startswith("schema2")
    assert [line.partition(": ")[2].partition(" of '")[0] for line in problems(path)] == unknown * [UNKNOWN]
    checked = check_archive(path, allow_unknown_data=True)
    assert (checked.problems, len(checked.unknown)) == ((), unknown)
    merged = merge(path, tmp_path / "board", allow_unknown_data=True)
    assert len(merged.added) == len(read_results(FROZEN / name)[0])
    assert all(read_outcomes(result) for result in read_results(tmp_path / "board")[0])


@pytest.mark.parametrize("name", ["schema3_names", "schema4_first"])
def test_a_part_of_imagenet_is_refused_for_that_alone(tmp_path, name):
    """By file names and by canonical ids alike."""
    found = problems(pack(FROZEN / name, tmp_path / "old.zip").path)
    assert found
    assert all("says that 650 images were available" in line for line in found), found


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (put("threat", "linf four", "conditions", 0), "the threat 'linf four' is none that schema 1 knows"),
        (put("threat", ["linf"], "conditions", 0), "is no result (TypeError"),
        (put("conditions", []), "is no result (ValueError: it has no conditions)"),
        (put("conditions", ["clean"]), "is no result (AttributeError"),
        (put("accuracy", "high", "conditions", 0), "is no result (ValueError"),
        (put("history", [1], "provenance"), "is no result (AttributeError"),
        (put("schema", "1"), "schema 1 is not known here"),
        (put("schema", [1]), "schema [1] is not known here"),
    ],
)
def test_an_old_result_that_cannot_be_upgraded_is_named(tmp_path, change, problem):
    path = pack(FROZEN / "schema1_first", tmp_path / "old.zip").path
    stem = next(name for name in open_archive(path).files if "fgsm" in name).rpartition(".")[0]
    found = problems(edited(path, change, stem))
    assert any(problem in line for line in found), found
    assert all(line.isprintable() for line in found)


def test_the_committed_board_passes(tmp_path):
    """Alone and beside itself; of the three folders on shapes10 the one that has every method on every suite."""
    folder = FROZEN.parents[1] / "reports" / "showcase" / "shapes10" / "results"
    held = read_results(folder)[0]
    path = pack(folder, tmp_path / "board.zip").path
    assert problems(path) == ()
    assert problems(path, held=held) == ()
