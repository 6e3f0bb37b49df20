"""The main job, whole, on a few images: run, resume, report; and on real images with their known figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nsbench.cli import main
from nsbench.results import read_outcomes, read_result, read_results, store
from nsbench.run import pair

LIMIT = 12


def nsbench(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eleven suites for the method and its control on a few images of shapes10."""
    folder = tmp_path_factory.mktemp("results")
    result = nsbench(
        "run", "--method", "ns,finetune", "--suite", "all", "--recipe", "quick", "--limit", LIMIT, "--results", folder
    )
    assert result.exit_code == 0, result.output
    assert "22 done, 0 held already, 0 missing, 0 failed" in result.output
    return folder


def test_every_result_carries_its_conditions(stored: Path) -> None:
    found, problems = read_results(stored)
    assert not problems
    assert len(found) == 22
    for result in found:
        assert result.path == stored / "shapes10" / "vit_shapes10" / result.method / f"{result.suite}.seed0.json"
        assert 0 <= result.score.low <= result.score.value <= result.score.high
        own = result.provenance
        assert all((own.nsbench, own.versions, own.device, own.weights_digest, own.data_digest, own.command, own.date))
        assert all((own.preprocessing, own.normalisation, own.seconds, own.recipe))
        assert own.outputs is not None
        for condition, outcome in zip(result.conditions, read_outcomes(result).values(), strict=True):
            assert condition.n == len(outcome) <= LIMIT
            assert condition.accuracy == pytest.approx(100 * outcome.correct.mean(), abs=1e-3)


def test_the_two_methods_differ_in_weights_and_share_images(stored: Path) -> None:
    found, _ = read_results(stored)
    weights = {result.method: result.provenance.weights_digest for result in found}
    assert weights["ns"] != weights["finetune"]
    for suite in {result.suite for result in found}:
        assert len({result.provenance.data_digest for result in found if result.suite == suite}) == 1


def test_noise_is_recorded_by_round(stored: Path) -> None:
    history = next(result for result in read_results(stored)[0] if result.method == "ns").provenance.history
    assert len(history) == 2
    assert all(entry.noise.norm > 0 and entry.noise.mse_probability > 0 for entry in history)


def test_a_second_run_computes_only_what_is_missing(stored: Path) -> None:
    folder = stored / "shapes10" / "vit_shapes10" / "ns"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    digest = read_result(folder / "cw.seed0.json").outcomes_sha256[:16]
    (folder / "cw.seed0.json").unlink()
    result = nsbench(
        "run", "--method", "ns", "--suite", "all", "--recipe", "quick", "--limit", LIMIT, "--results", stored
    )
    assert "1 done, 10 held already, 0 missing, 0 failed" in result.output
    changed = {path.name for path in folder.iterdir() if before.get(path) != path.stat().st_mtime_ns}
    assert changed == {"cw.seed0.json", f"cw.seed0.outcomes.{digest}.parquet", f"cw.seed0.samples.{digest}.zip"}


def test_another_limit_stands_beside_and_its_images_are_inside(stored: Path) -> None:
    result = nsbench(
        "run", "--method", "ns", "--suite", "clean", "--recipe", "quick", "--limit", 6, "--results", stored
    )
    assert result.exit_code == 0
    both = {
        len(read_outcomes(r)["clean"]): set(read_outcomes(r)["clean"].ids)
        for r in read_results(stored)[0]
        if r.method == "ns" and r.suite == "clean"
    }
    assert set(both) == {6, LIMIT}
    assert both[6] < both[LIMIT]


def test_batch_size_moves_no_figure(stored: Path, tmp_path: Path) -> None:
    suites = "clean,fgsm,imagenet_r,patchfool"
    result = nsbench(
        "run",
        "--method",
        "ns",
        "--suite",
        suites,
        "--recipe",
        "quick",
        "--limit",
        LIMIT,
        "--batch-size",
        5,
        "--workers",
        2,
        "--results",
        tmp_path,
    )
    assert result.exit_code == 0, result.output
    reference = {r.suite: r for r in read_results(stored)[0] if r.method == "ns" and r.score.n == LIMIT}
    for other in read_results(tmp_path)[0]:
        assert other.identity == reference[other.suite].identity
        assert other.score.value == reference[other.suite].score.value, other.suite


def test_report(stored: Path, tmp_path: Path) -> None:
    result = nsbench("report", "--results", stored, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "index.html").read_text()
    assert "shapes10" in page
    assert "finetune" in page


def test_an_interruption_keeps_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pair.evaluate

    def interrupted(model, split, condition, **options):
        if split.name == "v2":
            raise KeyboardInterrupt
        return real(model, split, condition, **options)

    monkeypatch.setattr(pair, "evaluate", interrupted)
    result = nsbench(
        "run", "--method", "pretrained", "--suite", "clean,imagenet_v2", "--limit", 5, "--results", tmp_path
    )
    assert result.exit_code == 130
    assert "interrupted" in result.output
    assert [r.suite for r in read_results(tmp_path)[0]] == ["clean"]


def test_a_failure_is_named_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.write_atomically

    def full_disk(path: Path, content: bytes) -> None:
        if "imagenet_v2" in path.name:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(store, "write_atomically", full_disk)
    result = nsbench(
        "run", "--method", "pretrained", "--suite", "imagenet_v2,clean", "--limit", 5, "--results", tmp_path
    )
    assert result.exit_code == 1
    assert "1 done, 0 held already, 0 missing, 1 failed" in result.output
    assert "failed: pretrained x imagenet_v2" in result.output
    assert "No space left" in result.output


def real_run(shared_data: Path, folder: Path, *arguments: object) -> Result:
    return nsbench(
        "run",
        "--data",
        shared_data / "imagenet",
        "--model",
        "vit_tiny_patch16_224",
        "--checkpoint",
        shared_data / "weights" / "vit_tiny_patch16_224.safetensors",
        "--results",
        folder,
        *arguments,
    )


@pytest.mark.parametrize(("normalisation", "expected", "tolerance"), [("own", 82.8, 0.5), ("imagenet", 53.1, 0.5)])
def test_known_figures_of_a_real_model(
    shared_data: Path, tmp_path: Path, normalisation: str, expected: float, tolerance: float
) -> None:
    """timm's own preprocessing gives 82.77 % on these 650 images, ImageNet's mean and std 53.08 %."""
    result = real_run(
        shared_data, tmp_path, "--method", "pretrained", "--suite", "clean", "--normalisation", normalisation
    )
    assert result.exit_code == 0, result.output
    (found,), _ = read_results(tmp_path)
    assert found.score.value == pytest.approx(expected, abs=tolerance)
    assert found.score.n == 650


def test_absent_sets_are_named_and_the_rest_is_done(shared_data: Path, tmp_path: Path) -> None:
    result = real_run(
        shared_data, tmp_path, "--method", "pretrained", "--suite", "imagenet_a,fgsm,damagenet", "--limit", 3
    )
    assert result.exit_code == 1
    assert "1 done, 0 held already, 2 missing, 0 failed" in result.output
    assert "missing: pretrained x imagenet_a" in result.output
    record = json.loads(next(tmp_path.rglob("fgsm.seed0.json")).read_text())
    assert record["source"] == "imagenet"


def test_a_missing_suite_is_named_once(shared_data: Path, tmp_path: Path) -> None:
    chosen = ["--method", "pretrained", "--suite", "imagenet_a", "--seed", "0,1,2"]
    for more, exit_code in ((["--dry-run"], 0), ([], 1)):
        result = real_run(shared_data, tmp_path, *chosen, *more)
        assert result.exit_code == exit_code, result.output
        assert "imagenet_a (3 pairs): " in result.output
        assert result.output.count("imagenet_a") == 1
        assert "3 missing" in result.output


@pytest.mark.slow
def test_ns_on_every_suite_of_a_real_tree(shared_data: Path, tmp_path: Path) -> None:
    """The main job on real images: what the tree does not hold is missing, everything else is there."""
    result = real_run(shared_data, tmp_path, "--method", "ns", "--suite", "all", "--limit", 8, "--recipe", "quick")
    assert result.exit_code == 1
    assert {r.suite for r in read_results(tmp_path)[0]} == {"clean", "fgsm", "cw", "patchfool", "imagenet_c"}


def test_images_that_cannot_be_read_are_counted_and_left_out_only_when_asked(shared_data: Path, tmp_path: Path) -> None:
    tree, folder = tmp_path / "tree", tmp_path / "results"
    shutil.copytree(shared_data / "imagenet" / "val" / "n01440764", tree / "val" / "n01440764")
    good = next((tree / "val" / "n01440764").iterdir())
    for name in ("broken_1.JPEG", "broken_2.JPEG"):
        (good.parent / name).write_bytes(good.read_bytes()[:2000])
    command = [
        "run",
        "--data",
        tree,
        "--model",
        "vit_tiny_patch16_224",
        "--checkpoint",
        shared_data / "weights" / "vit_tiny_patch16_224.safetensors",
        "--method",
        "pretrained",
        "--suite",
        "clean",
        "--results",
        folder,
    ]
    refused = nsbench(*command)
    assert refused.exit_code == 1
    assert "2 of " in refused.output
    assert "broken_1.JPEG" in refused.output
    assert not read_results(folder)[0]
    assert nsbench(*command, "--allow-missing").exit_code == 0
    (stored,), _ = read_results(folder)
    assert set(stored.conditions[0].unreadable) == {"broken_1", "broken_2"}
    assert "1 done" not in nsbench(*command, "--allow-missing").output
    assert nsbench(*command).exit_code == 1, "a result without all images does not count where all are wanted"
