"""The baseline file, the subsets that it is made on, and the command that reads it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from regression_results import CORRUPTED, baseline, flags, store

from nsbench import regression
from nsbench.cli import main
from nsbench.data.source import Split
from nsbench.errors import ResultError
from nsbench.regression import (
    Reference,
    Rules,
    check_results,
    read_baseline,
    write_baseline,
)
from nsbench.regression.noise import Noise, Together
from nsbench.results import Result
from nsbench.run.opening import open_source

REPOSITORY = Path(__file__).parents[2]
FROZEN = Path(__file__).parent / "frozen" / "baseline_schema1.json"
N = 100


def test_a_baseline_comes_back_as_it_was(tmp_path: Path, before: Result) -> None:
    many = store(tmp_path / "c", {name: flags(60, 30) for name in CORRUPTED}, suite="imagenet_c")
    held = baseline(
        before,
        many,
        noise=Noise(200, 3, 0.5, 2.0, 2),
        options={"limit": 100, "settings": {"rounds": "2"}},
        repeats=2,
        moved={"ns": (3, 200)},
        together={"ns": Together(3, 5.0, 1, Noise(100, 3, 0.5, 2.0, 2))},
        reference=Reference(0.5, 300.0),
        needs=("data",),
        versions={"torch": "2.15.0"},
    )
    write_baseline(tmp_path / "b.json", held)
    back = read_baseline(tmp_path / "b.json")
    for old, new in zip(held.entries, back.entries, strict=True):
        assert np.array_equal(old.right_CN, new.right_CN)
        assert np.array_equal(old.images.ids, new.images.ids)
        assert np.array_equal(old.images.labels, new.images.labels)
        assert (old.key, old.score, old.definition, old.noise) == (new.key, new.score, new.definition, new.noise)
        assert (old.model_facts, old.run_facts) == (new.model_facts, new.run_facts)
    assert replace(back, entries=()) == replace(held, entries=())
    assert check_results(back, [before, many], Rules()).exit_status == 0


def test_a_baseline_of_schema_1_is_read() -> None:
    """Written before flips had a direction: each counts in the worse way, for a drop and for a gain."""
    held = read_baseline(FROZEN)
    clean, fgsm, corrupted = held.entries
    assert clean.noise == Noise(100, 3, 3.0, 17.1)
    assert [clean.noise.toward(better=way) for way in (False, True)] == [3, 3]
    assert [clean.noise.shift(better=way) for way in (False, True)] == [3.0, 3.0]
    assert (fgsm.score, corrupted.noise.flipped) == (60.0, 2)
    assert held.clusters == {"ns": Together(3, 3.0, 2)}, "both accuracies hold the same images"


def test_twelve_suites_of_five_hundred_images_stay_under_100_kb(tmp_path: Path) -> None:
    """With file names as in ImageNet's sets, and outcomes that do not compress."""
    rng = np.random.default_rng(0)
    wnids = [f"n{number:08d}" for number in rng.integers(1_440_000, 15_000_000, 1000)]

    def names(kind: str) -> list[str]:
        k = rng.integers(0, 1000, 500)
        stems = {
            "val": lambda i: f"ILSVRC2012_val_{rng.integers(1, 50_001):08d}.JPEG",
            "v2": lambda i: f"{rng.bytes(20).hex()}.jpeg",
            "a": lambda i: f"0.{rng.integers(0, 999_999):06d}_crane _ crane_0.{rng.integers(0, 9**8)}.jpg",
        }
        return [f"{wnids[i]}/{stems[kind](i)}" for i in k]

    labels = rng.integers(0, 1000, 500).tolist()
    validation = names("val")  # clean and the attacks share their images, as the corruptions do
    sets = [validation] * 4 + [names(kind) for kind in ("val", "a", "v2", "a", "val", "val", "val")]
    results = [
        store(tmp_path, {"clean": rng.random(500) < 0.7}, suite=f"suite{k}", ids=ids, labels=labels)
        for k, ids in enumerate(sets)
    ]
    results.append(
        store(tmp_path, {name: rng.random(500) < 0.6 for name in CORRUPTED}, suite="imagenet_c", ids=names("val"))
    )
    write_baseline(tmp_path / "b.json", baseline(*results, noise=Noise(500, 2, 0.1, 0.2)))
    assert (tmp_path / "b.json").stat().st_size < 100_000


def test_a_broken_baseline_is_one_line(tmp_path: Path, before: Result) -> None:
    path = tmp_path / "b.json"
    write_baseline(path, baseline(before))
    whole = path.read_bytes()
    broken = [whole[:cut] for cut in range(0, len(whole) - 2, 97)]
    broken += [
        whole.replace(b'"score":80.0', b'"score":90.0'),
        b"[]",
        b"null",
        b"\xff\xfe",
        whole.replace(b'"schema": 2', b'"schema": 3'),
    ]
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(ResultError, match=r"b\.json") as caught:
            read_baseline(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole.replace(b'"schema": 2', b'"schema": 0'))
    with pytest.raises(ResultError, match=r"schema 0 is none that nsbench ever wrote \(1, 2\); record it anew"):
        read_baseline(path)
    path.write_bytes(whole.replace(b"\n", b"\r\n"))
    assert read_baseline(path).entries, "line ends of another system do no harm"
    path.write_bytes(whole[:500])
    done = CliRunner().invoke(main, ["check", "--baseline", str(path), "--results", str(tmp_path)])
    assert done.exit_code == 3, "nothing was compared, which is no regression"


@pytest.mark.parametrize("name", ["clean", "imagenet_r"])
def test_subsets_are_nested_stratified_and_the_same_in_any_order(name: str) -> None:
    split = open_source("shapes10").split({"clean": "clean", "imagenet_r": "r"}[name])

    class Shuffled(Split):
        def __init__(self) -> None:
            order = np.random.default_rng(0).permutation(len(split))
            self.name, self.ids, self.labels = split.name, split.ids[order], split.labels[order]

        def load(self, index: int):  # pragma: no cover
            raise AssertionError

        @property
        def digest(self) -> str:
            return "other order"

    chosen = {n: set(split.limited(n).ids.tolist()) for n in (60, 200, 500)}
    assert chosen[60] < chosen[200] < chosen[500]
    for n, ids in chosen.items():
        assert len(ids) == n
        assert set(Shuffled().limited(n).ids.tolist()) == ids
        counts = np.unique(split.limited(n).labels, return_counts=True)[1]
        assert counts.max() - counts.min() <= 1


def test_the_command(tmp_path: Path, before: Result) -> None:
    file, results = str(tmp_path / "b.json"), str(tmp_path / "after")
    write_baseline(Path(file), baseline(before))

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["check", "--baseline", file, *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    store(tmp_path / "after", {"clean": flags(N, 80, lose=30)})
    status, text = run("--results", results)
    assert status == 1
    assert "1 regressed" in text
    assert run("--results", str(tmp_path / "before"))[0] == 0
    assert run("--results", results, "--min-drop", "40")[0] == 0
    assert run("--results", results, "--method", "all")[0] == 1
    assert run("--results", str(tmp_path / "before"), "--method", "pretrained,ns", "--suite", "clean")[0] == 3
    for wrong in (
        ["--results", str(tmp_path / "none")],
        ["--run", "--results", results],
        ["--method", "nss"],
        ["--results", results, "--normalisation", "imagenet"],
        ["--alpha", "2"],
        ["--limit", "3"],
    ):
        assert run(*wrong)[0] == 2, wrong


def test_an_unexpected_error_is_no_regression(tmp_path: Path, before: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    write_baseline(tmp_path / "b.json", baseline(before))

    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(regression, "check_results", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arguments = ["check", "--baseline", str(tmp_path / "b.json"), "--results", str(tmp_path / "before")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 4
    assert done.output.startswith("nsbench: unexpected ZeroDivisionError: two lines (")
    assert done.output.endswith("; nothing is said of the model\n")
    assert done.output.count("\n") == 1


@pytest.mark.parametrize(("lose", "status"), [(0, 3), (30, 1)])
@pytest.mark.parametrize("option", ["--junit", "--json", "--summary", "--explain"])
def test_a_full_disk_hides_no_verdict(tmp_path: Path, before: Result, lose: int, status: int, option: str) -> None:
    write_baseline(tmp_path / "b.json", baseline(before))
    store(tmp_path / "after", {"clean": flags(N, 80, lose=lose)})
    (tmp_path / "file").touch()
    full = tmp_path / "file" / "out" if option == "--explain" else Path("/dev/full")
    arguments = ["--baseline", str(tmp_path / "b.json"), "--results", str(tmp_path / "after"), option, str(full)]
    done = CliRunner().invoke(
        main, ["check", *arguments, "--json" if option != "--json" else "--junit", str(tmp_path / "w")]
    )
    assert done.exit_code == status
    verdict, line = done.output.splitlines()[-2:]
    assert ("1 regressed" in verdict) == bool(lose)
    assert line.startswith(f"nsbench: {full}: cannot be written (")
    assert (tmp_path / "w").stat().st_size  # the other file was written all the same


def test_a_check_of_stored_results_starts_without_torch(tmp_path: Path, before: Result) -> None:
    write_baseline(tmp_path / "b.json", baseline(before))
    code = (
        f"import sys; sys.argv = ['nsbench', 'check', '--baseline', {str(tmp_path / 'b.json')!r}, '--results', "
        f"{str(tmp_path / 'before')!r}]\n"
        "from nsbench.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=REPOSITORY)


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The baseline with other content and the right digest."""
    record = json.loads(path.read_text())
    del record["sha256"]
    change(record)
    body = "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    path.write_text(body + f',\n"sha256": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n')


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["entries"][0].update(score=79.0), "says 79.0000, and its outcomes give 80.0000"),
        (lambda r: r["entries"][0].update(score=float("nan")), "says nan, and its outcomes give"),
        (lambda r: r["entries"][0].update(definition=-1), "an entry refers to nothing"),
        (lambda r: r["entries"][0].update(images=7), "IndexError"),
        (lambda r: r["entries"][0]["noise"].update(flipped=-1), "its noise is impossible"),
        (lambda r: r["entries"][0]["noise"].update(mean=float("inf")), "its noise is impossible"),
        (lambda r: r["entries"][0]["noise"].update(lost=1), "its noise is impossible"),
        (lambda r: r["entries"][0].update(outcomes="~" * 50), "ValueError|LZMAError"),
        (lambda r: r["definitions"][0].update(measured={}), "does not say what it measured"),
        (
            lambda r: r["definitions"][0]["measured"].update(conditions=[["clean", 3, None]]),
            "does not say what it measured",
        ),
        (lambda r: r["definitions"][0].update(weights=[float("nan")]), "its weights are no numbers"),
        (lambda r: r["definitions"][0].update(conditions=[], weights=[]), "outcomes and images differ in number"),
        (lambda r: r.update(entries=[]), "it holds no suite"),
        (lambda r: r.update(entries=3), "entries"),
        (lambda r: r.update(schema=None), "TypeError"),
    ],
)
def test_a_baseline_with_the_right_digest_and_wrong_content(
    tmp_path: Path, before: Result, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    path = tmp_path / "b.json"
    write_baseline(path, baseline(before))
    rewritten(path, lambda record: None)
    read_baseline(path)
    rewritten(path, change)
    with pytest.raises(ResultError, match=words) as raised:
        read_baseline(path)
    assert "\n" not in str(raised.value)


def test_a_baseline_nested_beyond_reason_and_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("[" * 100_000)
    os.mkfifo(tmp_path / "pipe.json")
    for name, words in (("b.json", "RecursionError"), ("pipe.json", "is no regular file")):
        with pytest.raises(ResultError, match=words):
            read_baseline(tmp_path / name)


def test_options_of_a_baseline_that_cannot_be_are_named(tmp_path: Path, before: Result) -> None:
    write_baseline(tmp_path / "b.json", replace(baseline(before), options={"limit": "many", "seeds": "a"}))
    done = CliRunner().invoke(
        main, ["check", "--run", "--baseline", str(tmp_path / "b.json"), "--method", "pretrained"]
    )
    assert done.exit_code == 3
    assert "the baseline's options: " in done.output


def test_the_options_that_were_given_are_recorded(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    asked = ["baseline", "record", "--method", "pretrained", "--suite", "clean", "--repeats", "0", "--out", str(path)]
    done = CliRunner().invoke(main, [*asked, "--limit", "8", "--workers", "0"])
    assert done.exit_code == 0, done.output
    assert dict(read_baseline(path).options) == {"limit": 8}
    done = CliRunner().invoke(main, [*asked, "--mean", "0.5,0.5,0.5"])
    assert (done.exit_code, "--mean: a baseline cannot state it" in done.output) == (2, True), done.output
