"""Archives of results: reproducible, readable by nobody's trust, and merged without replacing anything."""

import hashlib
import io
import json
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbench import registry
from nsbench.cli import main
from nsbench.errors import ResultError, UsageError
from nsbench.models import load_model
from nsbench.results import outcomes_path, read_outcomes, read_results, write_result
from nsbench.run.opening import open_source
from nsbench.submission import Limits, Rerunner, check_archive, merge, open_archive, pack, sample
from nsbench.submission.figures import FIELDS
from nsbench.submission.pack import archive_of
from nsbench.types import PROBABILITY_STEP, Outcomes

registry.load_content()
N = 40
FROZEN = Path(__file__).parents[1] / "frozen"
STEM = "results/shapes10/vit/ns/fgsm.seed0"


def outcomes(condition, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % 10
    clean = np.where(rng.random(N) < 0.8, labels, (labels + 1) % 10)
    if not condition.attack:
        return judged(labels, clean, seed)
    right = clean == labels
    broken = right & (rng.random(N) < 0.5)
    predictions = np.where(broken, (labels + 2) % 10, clean)
    norms = np.where(right, np.float32(condition.threat.eps or 0), 0).astype("f4")
    extra = {"predictions_clean": clean, "predictions_uint8": predictions, "linf": norms, "l2": norms}
    return judged(labels, predictions, seed, extra)


def judged(labels, predictions, seed, extra=None):
    """Outcomes with probabilities that fit the predictions."""
    steps = np.random.default_rng(seed + 1000).integers(1 << 15, 1 << 16, N)
    confidence = (steps * PROBABILITY_STEP).astype("f4")
    label = np.where(predictions == labels, confidence, (1 - confidence) / 2).astype("f4")
    top5 = (predictions[:, None] + np.arange(5)) % 10
    ids = np.array([f"clean/{i:05d}" for i in range(N)])
    return Outcomes(ids, labels, predictions, extra or {}, label, confidence, top5)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def store(folder, suite="fgsm", method="ns", *, seed=0, change=lambda result: result, measure=outcomes):
    """A result as the runner writes it, for a real suite."""
    own = registry.suites[suite]
    measured = {c.name: measure(c, seed + index) for index, c in enumerate(own.conditions())}
    conditions = tuple(
        made.condition(
            c.name,
            measured[c.name],
            split=c.split,
            attack=c.attack,
            params=dict(c.params),
            threat=c.threat,
            beforehand=c.beforehand,
            preprocess=c.preprocess,
            data_digest=digest(c.split),
        )
        for c in own.conditions()
    )
    result = made.result(
        model="vit",
        method=method,
        suite=suite,
        seed=seed,
        score=own.score(measured),
        **{name: getattr(own, name) for name in (*FIELDS, "summary", "citation")},
        suite_version=own.version,
        method_title=method.upper(),
        method_summary="A method.",
        conditions=conditions,
        recipe=made.recipe(seed=seed),
        weights_digest=digest(f"weights {seed}"),
        identity=digest(f"{suite} {method} {seed}"),
    )
    return write_result(folder, change(result), measured)


def as_npz(measured):
    """The outcomes file of schema 1, which takes what no table takes."""
    arrays = {"conditions": np.array(list(measured)), "sets": np.arange(len(measured))}
    for index, one in enumerate(measured.values()):
        arrays |= {f"set{index}.ids": np.char.encode(one.ids, "utf-8"), f"set{index}.labels": one.labels}
        arrays |= {f"{index}.predictions": one.predictions}
        arrays |= {f"{index}.extra.{name}": values for name, values in one.extra.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def with_npz(path, content, stem=STEM):
    """The archive with other outcomes of one result, in the form of schema 1, and their digest made anew."""
    record = json.loads(open_archive(path).files[f"{stem}.json"])
    record |= {"outcomes_format": "npz", "outcomes_sha256": hashlib.sha256(content).hexdigest()}
    changed = {f"{stem}.json": json.dumps(record).encode(), f"{stem}.parquet": None, f"{stem}.npz": content}
    return rewritten(path, **changed)


@pytest.fixture
def packed(tmp_path):
    store(tmp_path / "results")
    store(tmp_path / "results", "clean")
    return pack(tmp_path / "results", tmp_path / "ns.zip")


def problems(path):
    return check_archive(path).problems


def rewritten(path, **members):
    """The archive with some members changed and the manifest made anew; None removes one."""
    files = dict(open_archive(path).files) | members
    path.write_bytes(archive_of({name: content for name, content in files.items() if content is not None})[0])
    return path


def edited(path, change, stem=STEM):
    """The archive with one result's JSON changed."""
    record = json.loads(open_archive(path).files[f"{stem}.json"])
    change(record)
    return rewritten(path, **{f"{stem}.json": json.dumps(record).encode()})


def test_packing_is_reproducible_and_passes_the_check(packed, tmp_path):
    again = pack(tmp_path / "results", tmp_path / "again.zip")
    assert again.path.read_bytes() == packed.path.read_bytes()
    assert again.digest == packed.digest
    checked = check_archive(packed.path)
    assert checked.problems == ()
    assert checked.accepted
    assert checked.digest == packed.digest
    assert sorted(result.suite for result in checked.results) == ["clean", "fgsm"]


@pytest.mark.parametrize("suite", list(registry.suites))
def test_every_suite_passes(tmp_path, suite):
    store(tmp_path / "results", suite)
    assert problems(pack(tmp_path / "results", tmp_path / "x.zip").path) == ()


def test_a_model_of_a_zoo_can_be_shared(tmp_path):
    store(tmp_path / "results", change=lambda result: replace(result, model="robustbench:Salman2020Do_R50:Linf"))
    packed = pack(tmp_path / "results", tmp_path / "zoo.zip").path
    assert problems(packed) == ()
    (added,) = merge(packed, tmp_path / "merged").added
    assert added.relative_to(tmp_path).parts[2] == "robustbench@Salman2020Do_R50@Linf"


def test_packing_chooses_methods_and_refuses_what_is_broken(tmp_path):
    stored = store(tmp_path / "results")
    store(tmp_path / "results", method="madry")
    assert pack(tmp_path / "results", tmp_path / "x.zip", ["madry"]).results == 1
    with pytest.raises(UsageError, match=r"no results of method 'trades'; it has: madry, ns"):
        pack(tmp_path / "results", tmp_path / "x.zip", ["trades"])
    with pytest.raises(UsageError, match="holds no results"):
        pack(tmp_path / "nothing", tmp_path / "x.zip")
    outcomes_path(stored).write_bytes(b"x")
    with pytest.raises(ResultError, match="differs from the digest"):
        pack(tmp_path / "results", tmp_path / "x.zip")


# --- the archive ----------------------------------------------------------------------------------------------------


def zipped(path, *members):
    """A zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def special(mode, name=f"{STEM}.json"):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x.json",
        "results/../../x.json",
        "results/a/b/../x.json",
        "results\\a\\b\\c\\x.json",
        "results/a/b/c/d/x.json",
        "results/a/b/x.json",
        "results/a/b/c/.hidden.json",
        "results/a/b/c/x.py",
        "results/a/b/c/x y.json",
        "results/a/b/c/<img>.json",
        "results/a/b/c./x.json",
        "results/con/b/c/x.json",
        "C:/results/a.json",
        "results/a/b/c/",
        "results/a/b/c/x\u202e.json",
        "results/a/b/c/" + "x" * 200 + ".json",
    ],
)
def test_names_that_leave_their_place_are_refused(tmp_path, name):
    with pytest.raises(ResultError, match=r"x\.zip: member '.*(is not results|not every system)"):
        open_archive(zipped(tmp_path / "x.zip", (name, b"{}")))


def test_links_duplicates_and_unreadable_archives_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    with pytest.raises(ResultError, match="link or another special file"):
        open_archive(zipped(path, (special(stat.S_IFLNK | 0o777), b"/etc/passwd")))
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(path, (f"{STEM}.json", b"{}"), (f"{STEM}.json", b"{}"))
    with pytest.raises(ResultError, match="is there twice"):
        open_archive(path)
    with pytest.raises(ResultError, match="is there twice"):  # one file where names have no case
        open_archive(zipped(path, (f"{STEM}.json", b"{}"), (f"{STEM.replace('ns', 'NS')}.json", b"{}")))
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ResultError, match="is no archive that can be read"):
        open_archive(path)
    with pytest.raises(ResultError, match="cannot be read"):
        open_archive(tmp_path / "absent.zip")
    with pytest.raises(ResultError, match=r"no manifest\.json"):
        open_archive(zipped(path, (f"{STEM}.json", b"{}")))


def test_sizes_are_limited_before_anything_is_unpacked(tmp_path):
    path = tmp_path / "x.zip"
    bomb = zipped(path, (f"{STEM}.json", b" " * (5 << 20)))
    assert bomb.stat().st_size < 10_000
    with pytest.raises(ResultError, match=r"has 5,242,880 bytes; at most 4,194,304 are read"):
        open_archive(bomb)
    with pytest.raises(ResultError, match="would unpack to"):
        open_archive(bomb, Limits(archive=1 << 20, json=8 << 20))
    with pytest.raises(ResultError, match="bytes; at most 10 are read"):
        open_archive(bomb, Limits(archive=10))
    with pytest.raises(ResultError, match="has 1 files; at most 0"):
        open_archive(bomb, Limits(files=0))


def test_a_bomb_inside_the_outcomes_is_refused(packed):
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, **{"conditions": np.array(["a"]), "sets": np.zeros(1, int), "set0.ids": np.zeros(10_000_000, "S1")}
    )
    checked = check_archive(with_npz(packed.path, buffer.getvalue()), limits=Limits(unpacked=1 << 20))
    assert "would unpack to" in checked.problems[0]


def test_digests_must_be_those_of_the_manifest(packed):
    content = bytearray(packed.path.read_bytes())
    place = content.find(b'"NS"')
    content[place + 1 : place + 3] = b"SN"
    packed.path.write_bytes(bytes(content))
    with pytest.raises(ResultError, match=r"Bad CRC|differs from its digest"):
        open_archive(packed.path)


def test_the_manifest_must_list_just_what_is_there(packed):
    with zipfile.ZipFile(packed.path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for wrong in (members[:-1], [*members, ("results/a/b/c/x.json", b"{}")]):
        with pytest.raises(ResultError, match="but not in both"):
            open_archive(zipped(packed.path, *wrong))
    with pytest.raises(ResultError, match="differs from its digest"):
        open_archive(zipped(packed.path, *members[:-1], (members[-1][0], b"other")))
    for manifest in (b"[]", b'{"format": 1}', b'{"format": 9, "files": {}}', b"{" * 5000, b'{"a": NaN}', b"\xff"):
        with pytest.raises(ResultError):
            open_archive(zipped(packed.path, ("manifest.json", manifest)))


# --- the results ----------------------------------------------------------------------------------------------------


def put(key, value, *path):
    def change(record):
        for step in path:
            record = record[step]
        record[key] = value

    return change


CARD = {"images": 4, "forwards": 1.0, "backwards": 1.0, "seconds": 0.1}
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
        (put("n", 41, "conditions", 0), "says 41 images and has 40"),
        (put("split", "a", "conditions", 0), "split is 'a', and the suite's is 'clean'"),
        (put("eps", 0.1 / 255, "conditions", 0, "threat"), "norms beyond the budget of linf 0.1/255"),
        (put("eps", 2 / 255, "conditions", 0, "threat"), "threat is 'linf 2/255', and the suite's is 'linf 1/255'"),
        (put("threat", "linf 1/255", "conditions", 0), "conditions.0.threat"),
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


@pytest.mark.parametrize("name", ["schema1_first", "schema1_samples"])
def test_archives_of_old_results_pass(tmp_path, name):
    """What version 0.1 wrote and packed: threats as text, arrays of outcomes, no role and no composition."""
    path = pack(FROZEN / name, tmp_path / "old.zip").path
    assert {Path(member).suffix for member in open_archive(path).files} == {".json", ".npz"}
    assert problems(path) == ()
    merged = merge(path, tmp_path / "board")
    assert len(merged.added) == len(read_results(FROZEN / name)[0])
    assert all(read_outcomes(result) for result in read_results(tmp_path / "board")[0])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (put("threat", "linf four", "conditions", 0), "the threat 'linf four' is none that schema 1 knows"),
        (put("threat", ["linf"], "conditions", 0), "is no result (TypeError"),
        (put("conditions", []), "is no result (StopIteration"),
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


def tampered(tmp_path, change):
    """An archive whose outcomes were changed by somebody who made all digests and figures anew."""

    def measure(condition, seed):
        return change(outcomes(condition, seed))

    store(tmp_path / "results", measure=measure)
    return pack(tmp_path / "results", tmp_path / "x.zip").path


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda o: replace(o, predictions=np.where(o.correct, o.labels, 10)), "predictions outside the 10 classes"),
        (lambda o: replace(o, predictions=np.where(o.correct, o.labels, -1)), "predictions outside the 10 classes"),
        (lambda o: replace(o, ids=np.array([f"{i}\n" for i in range(N)])), "control characters"),
        (lambda o: replace(o, predictions=o.labels), "that the attack made right"),
        (lambda o: replace(o, extra={**o.extra, "linf": o.extra["linf"] + 1}), "linf norms beyond the budget"),
        (lambda o: replace(o, extra={**o.extra, "linf": o.extra["linf"] * np.nan}), "negative or not finite"),
        (lambda o: replace(o, extra={**o.extra, "l2": -o.extra["l2"]}), "negative or not finite"),
        (lambda o: replace(o, confidence=None), "some of label_probability, confidence and top5 without the others"),
        (lambda o: replace(o, confidence=o.confidence + 1), "confidence outside [0, 1]"),
        (lambda o: replace(o, label_probability=o.label_probability * np.nan), "label_probability outside [0, 1]"),
        (lambda o: replace(o, label_probability=np.ones(N, "f4")), "label_probability above confidence"),
        (lambda o: replace(o, label_probability=o.label_probability / 2), "whose label_probability is not their conf"),
        (lambda o: replace(o, top5=(o.top5 + 1) % 10), "whose first of top5 is not their prediction"),
        (lambda o: replace(o, top5=np.repeat(o.top5[:, :1], 5, axis=1)), "a class twice in top5"),
        (lambda o: replace(o, top5=o.top5 + 6), "top5 outside the 10 classes"),
        (lambda o: replace(o, top5=o.top5[:, :4]), "4 best classes of each image"),
    ],
)
def test_impossible_outcomes_are_named(tmp_path, change, problem):
    found = problems(tampered(tmp_path, change))
    assert any(problem in line for line in found), found


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda o: replace(o, ids=np.array(["same"] * N)), "names an image twice"),
        (lambda o: replace(o, extra={**o.extra, "linf": o.extra["linf"][:3]}), "other lengths"),
        (lambda o: replace(o, extra={**o.extra, "odd": np.array(["x"] * N)}), "of a form that no outcomes file has"),
        (lambda o: replace(o, ids=np.array([f"{i}\x1b" for i in range(N)])), "control characters"),
        (lambda o: o, ""),
    ],
)
def test_malformed_arrays_are_named(packed, change, problem):
    conditions = registry.suites["fgsm"].conditions()
    content = as_npz({c.name: change(outcomes(c, k)) for k, c in enumerate(conditions)})
    found = problems(with_npz(packed.path, content))
    assert any(problem in line for line in found) if problem else all("extra" not in line for line in found), found


def test_predictions_of_a_subset_are_inside_it(tmp_path):
    store(tmp_path / "results", "imagenet_a", change=lambda r: replace(r, source="imagenet"))
    found = problems(pack(tmp_path / "results", tmp_path / "x.zip").path)
    assert "outside the 200 classes of split 'a'" in found[0]


def test_pickled_and_malformed_outcomes_are_not_loaded(packed):
    for arrays in ({"conditions": np.array(["a"], dtype=object)}, {"surprise": np.zeros(3)}, {}):
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        found = problems(with_npz(packed.path, buffer.getvalue()))
        assert any("outcomes" in line for line in found), found


def test_the_same_data_have_the_same_labels(packed, tmp_path):
    held = read_results(tmp_path / "results")[0]
    assert check_archive(packed.path, held=held).accepted
    path = tampered(
        tmp_path / "other",
        lambda o: replace(
            o,
            labels=(o.labels + 1) % 10,
            predictions=(o.predictions + 1) % 10,
            top5=(o.top5 + 1) % 10,
            extra={**o.extra, "predictions_clean": (o.extra["predictions_clean"] + 1) % 10},
        ),
    )
    assert check_archive(path).accepted
    assert "other images or labels than the leaderboard's" in check_archive(path, held=held).problems[0]


def test_a_random_sample_is_run_again(packed):
    asked = []

    def honest(result, wanted):
        asked.append(wanted)
        stored = outcomes_by_suite[result.suite]
        return {
            name: {i: int(p) for i, p in zip(stored[name].ids, stored[name].predictions, strict=True) if i in ids}
            for name, ids in wanted.items()
        }

    outcomes_by_suite = {
        suite: {c.name: outcomes(c, k) for k, c in enumerate(registry.suites[suite].conditions())}
        for suite in ("clean", "fgsm")
    }
    checked = check_archive(packed.path, rerun=honest, sample_size=5)
    assert checked.accepted
    assert checked.rerun == sum(len(ids) for wanted in asked for ids in wanted.values())
    assert all(len(ids) == 5 for wanted in asked for ids in wanted.values())
    lying = check_archive(
        packed.path, rerun=lambda result, wanted: {n: dict.fromkeys(ids, 9) for n, ids in wanted.items()}
    )
    assert "images that were run again are predicted otherwise" in lying.problems[0]

    def elsewhere(result, wanted):
        raise ResultError("other weights")

    away = check_archive(packed.path, rerun=elsewhere)
    assert (away.accepted, away.rerun, len(away.not_rerun)) == (True, 0, 2)
    assert away.not_rerun[0].endswith("clean.seed0.json: other weights")


def test_weights_at_hand_are_run_again(tmp_path):
    run = ["run", "--method", "pretrained", "--suite", "clean,fgsm", "--limit", "24", "--results"]
    assert CliRunner().invoke(main, [*run, str(tmp_path / "results")]).exit_code == 0
    packed = pack(tmp_path / "results", tmp_path / "own.zip")
    done = CliRunner().invoke(
        main,
        [
            "submit",
            "check",
            str(packed.path),
            "--rerun",
            "5",
            "--sample-seed",
            "7",
            "--results",
            str(tmp_path / "none"),
        ],
    )
    assert done.exit_code == 0, done.output
    conditions = 1 + len(registry.suites["fgsm"].conditions())
    assert f"{5 * conditions} images were run again and agree (sample seed 7); 0 results could not" in done.output

    source = open_source("shapes10")
    other = load_model("vit_shapes10")
    with torch.no_grad():
        other.vit.head.weight.copy_(other.vit.head.weight.roll(1, 0))
    rerunner = Rerunner(other, source)
    stranger = check_archive(packed.path, rerun=rerunner, sample_size=5)
    assert stranger.accepted
    assert all("its weights have digest" in line for line in stranger.not_rerun)
    rerunner.digest = read_results(tmp_path / "results")[0][0].provenance.weights_digest
    lying = check_archive(packed.path, rerun=rerunner, sample_size=5)
    assert "5 of 5 images that were run again are predicted otherwise; at most 2 % may differ" in lying.problems[0]
    imagenet_like = Rerunner(load_model("vit_shapes10", normalisation="imagenet"), source)
    assert "normalises by mean" in check_archive(packed.path, rerun=imagenet_like, sample_size=5).not_rerun[0]


def test_samples_depend_on_the_seed_and_the_result(packed, tmp_path):
    result = read_results(tmp_path / "results")[0][0]
    stored = read_outcomes(result)
    assert sample(result, stored, 5) == sample(result, stored, 5)
    assert sample(result, stored, 5) != sample(result, stored, 5, seed=1)
    assert {len(ids) for ids in sample(result, stored, 10**6).values()} == {N}


# --- merging --------------------------------------------------------------------------------------------------------


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


def test_another_measurement_of_the_same_name_stands_beside(packed, tmp_path):
    target = tmp_path / "board"
    store(target, change=lambda r: replace(r, identity="f" * 16))
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
