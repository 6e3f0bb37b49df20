"""Archives of results: reproducible, readable by nobody's trust, and merged without replacing anything."""

import hashlib
import io
import json
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

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
from nsbench.results import Result, read_results, write_result
from nsbench.run.opening import open_source
from nsbench.submission import Limits, Rerunner, check, merge, open_archive, pack, sample
from nsbench.submission.pack import archive_of
from nsbench.types import Outcomes

registry.load_content()
N = 40
STEM = "results/shapes10/vit/ns/fgsm.seed0"


def outcomes(condition, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % 10
    clean = np.where(rng.random(N) < 0.8, labels, (labels + 1) % 10)
    ids = np.array([f"clean/{i:05d}" for i in range(N)])
    if not condition.attack:
        return Outcomes(ids, labels, clean)
    right = clean == labels
    broken = right & (rng.random(N) < 0.5)
    predictions = np.where(broken, (labels + 2) % 10, clean)
    eps = np.float32(condition.threat.eps or 0)
    return Outcomes(
        ids,
        labels,
        predictions,
        {
            "predictions_clean": clean,
            "predictions_uint8": predictions,
            "linf": np.where(right, eps, 0).astype("f4"),
            "l2": np.where(right, eps, 0).astype("f4"),
        },
    )


def store(folder, suite="fgsm", method="ns", *, seed=0, change=lambda result: result, measure=outcomes):
    """A result as the runner writes it, for a real suite."""
    own = registry.suites[suite]
    measured = {c.name: measure(c, seed + index) for index, c in enumerate(own.conditions())}
    conditions = [
        {
            "name": c.name,
            "split": c.split,
            "attack": c.attack,
            "params": dict(c.params),
            "threat": str(c.threat) if c.threat else None,
            "preprocess": c.preprocess,
            "n": len(measured[c.name]),
            "origin": "embedded",
            "data_digest": f"digest of {c.split}",
            "accuracy": round(100 * float(measured[c.name].correct.mean()), 4),
        }
        for c in own.conditions()
    ]
    provenance = {
        "nsbench": "0.1.0",
        "weights_digest": f"w{seed}",
        "parent_digest": "p",
        "data_digest": "d",
        "preprocessing": "crop 48",
        "normalisation": "own",
        "date": "2026-01-01",
        "limit": None,
        "recipe": {"name": "quick", "seed": seed},
        "method_version": 1,
        "history": [],
    }
    result = Result(
        "shapes10",
        "vit",
        method,
        suite,
        seed,
        own.score(measured),
        own.unit,
        own.lower_is_better,
        own.title,
        own.group,
        own.order,
        own.paper,
        own.version,
        own.summary,
        own.citation,
        method.upper(),
        "A method.",
        1,
        conditions,
        provenance,
        hashlib.sha256(f"{suite} {method} {seed}".encode()).hexdigest()[:16],
    )
    return write_result(folder, change(result), measured)


@pytest.fixture
def packed(tmp_path):
    store(tmp_path / "results")
    store(tmp_path / "results", "clean")
    return pack(tmp_path / "results", tmp_path / "ns.zip")


def problems(path):
    return check(path).problems


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
    checked = check(packed.path)
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
    path = store(tmp_path / "results")
    store(tmp_path / "results", method="madry")
    assert pack(tmp_path / "results", tmp_path / "x.zip", ["madry"]).results == 1
    with pytest.raises(UsageError, match=r"no results of method 'trades'; it has: madry, ns"):
        pack(tmp_path / "results", tmp_path / "x.zip", ["trades"])
    with pytest.raises(UsageError, match="holds no results"):
        pack(tmp_path / "nothing", tmp_path / "x.zip")
    path.with_suffix(".npz").write_bytes(b"x")
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
    checked = check(rewritten(packed.path, **{f"{STEM}.npz": buffer.getvalue()}), limits=Limits(unpacked=1 << 20))
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


CARD = {"attack": "fgsm", "images": 4, "forwards": 1.0, "backwards": 1.0, "seconds": 0.1}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (put("value", 99.0, "score"), "says 99.0000 %, and its outcomes give"),
        (put("low", 1.0, "score"), "says the interval 1.0000 to"),
        (put("n", 41, "score"), "says n = 41, and its outcomes have 40"),
        (put("accuracy eps 2/255", 3.0, "score", "extra"), "says 'accuracy eps 2/255' is 3.0000"),
        (put("made up", 3.0, "score", "extra"), "states 'made up', which the suite does not measure"),
        (put("lower_is_better", True, "score"), "lower_is_better is 'True'"),
        (put("accuracy", 99.0, "conditions", 0), "says accuracy 99 and its outcomes have"),
        (put("n", 41, "conditions", 0), "says 41 images and has 40"),
        (put("split", "a", "conditions", 0), "split is 'a', and the suite's is 'clean'"),
        (put("threat", "linf 0.1/255", "conditions", 0), "norms beyond the budget of linf 0.1/255"),
        (put("params", {"steps": 0}, "conditions", 0), "params is"),
        (put("suite_version", 7), "is of version 7 of the suite"),
        (put("title", "FGSM <b>"), "holds markup"),
        (put("method_title", "<script>alert(1)</script>"), "holds markup"),
        (put("method_summary", "a\x1b[31mb"), "control or invisible characters"),
        (put("method_summary", "a\u202eb"), "control or invisible characters"),
        (put("method_summary", "x" * 5000), "5,000 characters"),
        (put("name", "<img src=x>", "provenance", "recipe"), "holds markup"),
        (put("method", "../../x"), "method: String should match pattern"),
        (put("method", "madry"), "stands in another place"),
        (put("seed", 1), "stands in another place"),
        (put("seed", "0"), "seed: Input should be a valid integer"),
        (put("seed", 10**30), "larger than any count"),
        (put("identity", "x"), "identity"),
        (put("seconds", "soon", "provenance"), "provenance.seconds"),
        (put("fit_seconds", -1.0, "provenance"), "provenance.fit_seconds"),
        (put("history", "long", "provenance"), "provenance.history"),
        (put("history", [{"round": 1, "loss_clean": "0.3"}], "provenance"), "provenance.history.0.loss_clean"),
        (put("lineage", ["madry"], "provenance"), "provenance.lineage.0"),
        (put("outputs", {"images": "many"}, "provenance"), "provenance.outputs.images"),
        (put("attack_card", {"images": 4, "forwards": 1.0}, "conditions", 0), "conditions.0.attack_card.attack"),
        (put("attack_card", CARD | {"steps": "all"}, "conditions", 0), "conditions.0.attack_card.steps"),
        (put("surprise", 1), "has a field 'surprise' that no result has"),
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
    assert "has no outcomes" in problems(rewritten(packed.path, **{f"{STEM}.npz": None}))[-1]


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
        (lambda o: replace(o, ids=np.array(["same"] * N)), "name an image twice"),
        (lambda o: replace(o, ids=np.array([f"{i}\n" for i in range(N)])), "control characters"),
        (lambda o: replace(o, predictions=o.labels), "that the attack made right"),
        (lambda o: replace(o, extra={**o.extra, "linf": o.extra["linf"] + 1}), "linf norms beyond the budget"),
        (lambda o: replace(o, extra={**o.extra, "linf": o.extra["linf"] * np.nan}), "negative or not finite"),
        (lambda o: replace(o, extra={**o.extra, "l2": -o.extra["l2"]}), "negative or not finite"),
        (lambda o: replace(o, extra={**o.extra, "linf": o.extra["linf"][:3]}), "other lengths"),
        (lambda o: replace(o, extra={**o.extra, "odd": np.array(["x"] * N)}), "in a form that no outcomes file has"),
    ],
)
def test_impossible_outcomes_are_named(tmp_path, change, problem):
    found = problems(tampered(tmp_path, change))
    assert any(problem in line for line in found), found


def test_predictions_of_a_subset_are_inside_it(tmp_path):
    store(tmp_path / "results", "imagenet_a", change=lambda r: replace(r, source="imagenet"))
    found = problems(pack(tmp_path / "results", tmp_path / "x.zip").path)
    assert "outside the 200 classes of split 'a'" in found[0]


def test_pickled_and_malformed_outcomes_are_not_loaded(packed):
    for arrays in ({"conditions": np.array(["a"], dtype=object)}, {"surprise": np.zeros(3)}, {}):
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        record = json.loads(open_archive(packed.path).files[f"{STEM}.json"])
        record["outcomes_sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
        found = problems(
            rewritten(packed.path, **{f"{STEM}.npz": buffer.getvalue(), f"{STEM}.json": json.dumps(record).encode()})
        )
        assert any("outcomes" in line for line in found), found


def test_the_same_data_have_the_same_labels(packed, tmp_path):
    held = read_results(tmp_path / "results")[0]
    assert check(packed.path, held=held).accepted
    path = tampered(
        tmp_path / "other",
        lambda o: replace(
            o,
            labels=(o.labels + 1) % 10,
            predictions=(o.predictions + 1) % 10,
            extra={**o.extra, "predictions_clean": (o.extra["predictions_clean"] + 1) % 10},
        ),
    )
    assert check(path).accepted
    assert "other images or labels than the leaderboard's" in check(path, held=held).problems[0]


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
    checked = check(packed.path, rerun=honest, sample_size=5)
    assert checked.accepted
    assert checked.rerun == sum(len(ids) for wanted in asked for ids in wanted.values())
    assert all(len(ids) == 5 for wanted in asked for ids in wanted.values())
    lying = check(packed.path, rerun=lambda result, wanted: {n: dict.fromkeys(ids, 9) for n, ids in wanted.items()})
    assert "images that were run again are predicted otherwise" in lying.problems[0]

    def elsewhere(result, wanted):
        raise ResultError("other weights")

    away = check(packed.path, rerun=elsewhere)
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
    stranger = check(packed.path, rerun=rerunner, sample_size=5)
    assert stranger.accepted
    assert all("its weights have digest" in line for line in stranger.not_rerun)
    rerunner.digest = read_results(tmp_path / "results")[0][0].provenance["weights_digest"]
    lying = check(packed.path, rerun=rerunner, sample_size=5)
    assert "5 of 5 images that were run again are predicted otherwise; at most 2 % may differ" in lying.problems[0]
    imagenet_like = Rerunner(load_model("vit_shapes10", normalisation="imagenet"), source)
    assert "normalises by mean" in check(packed.path, rerun=imagenet_like, sample_size=5).not_rerun[0]


def test_samples_depend_on_the_seed_and_the_result(packed, tmp_path):
    result = read_results(tmp_path / "results")[0][0]
    stored = result.outcomes()
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
    assert all(result.outcomes() for result in results)
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
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    try:
        lines = check(path).problems
    except ResultError as error:
        lines = (str(error),)
    assert all("\n" not in line for line in lines)
