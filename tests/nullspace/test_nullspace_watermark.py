"""Least squares in the nullspace, watermarks and disguises: closed forms, a reference solver, real images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch
from click.testing import CliRunner
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from timm.models.vision_transformer import VisionTransformer

from nsbench.cli import main
from nsbench.errors import UnknownName, UsageError
from nsbench.models import Model, Preprocessing, load_model
from nsbench.nullspace import patch_nullspace, to_patches
from nsbench.nullspace.disguise import disguise
from nsbench.nullspace.least_squares import edit, project_bounded, row_space
from nsbench.nullspace.similarity import correlation, psnr, rank_correlation, ssim
from nsbench.nullspace.watermark import picture_mark, text_mark, watermark


def tiny_model() -> Model:
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=5)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return Model(vit, name="tiny", preprocessing=Preprocessing(16), mean=(0.5, 0.4, 0.6), std=(0.2, 0.3, 0.25))


def pictures(n: int = 3, seed: int = 4) -> torch.Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_closed_form_equals_numpys_least_squares() -> None:
    """Equation 12 as the paper solves it: coefficients of the basis vectors by numpy.linalg.lstsq."""
    model = tiny_model()
    space = patch_nullspace(model)
    images, wanted = pictures(), pictures(seed=5)
    found = to_patches(edit(space, images, wanted, bounded=False) - images, 4).double().numpy()
    change = to_patches(wanted - images, 4).double().numpy()
    basis = (space.scale_P[:, None] * space.basis_PK).numpy()  # in pixel units, not orthonormal
    for image in range(3):
        coefficients = np.linalg.lstsq(basis, change[image].T, rcond=None)[0]
        np.testing.assert_allclose(found[image], (basis @ coefficients).T, atol=1e-6)


def test_bounded_solution_equals_scipys() -> None:
    """The quadratic programme of single patches by scipy: minimise |v - wanted|^2 in the nullspace and in the box."""
    model = tiny_model()
    space = patch_nullspace(model)
    images, wanted = pictures(1), pictures(1, seed=5).round()
    found = edit(space, images, wanted)
    assert found.min() >= 0
    assert found.max() <= 1
    start, goal, done = (to_patches(part, 4)[0].double().numpy() for part in (images, wanted, found))
    seen = row_space(space).numpy().T
    for patch in range(0, 16, 5):
        reference = scipy.optimize.minimize(
            lambda v, patch=patch: ((v + start[patch] - goal[patch]) ** 2).sum(),
            np.zeros(48),
            method="SLSQP",
            jac=lambda v, patch=patch: 2 * (v + start[patch] - goal[patch]),
            bounds=scipy.optimize.Bounds(-start[patch], 1 - start[patch]),
            options={"maxiter": 500, "ftol": 1e-12},
            constraints={"type": "eq", "fun": lambda v: seen @ v, "jac": lambda v: seen},
        )
        assert reference.success
        np.testing.assert_allclose(done[patch] - start[patch], reference.x, atol=3e-3)
        assert ((done[patch] - goal[patch]) ** 2).sum() == pytest.approx(reference.fun, rel=1e-3)
    clipped = (images + space.project(wanted - images)).clamp(0, 1)
    assert space.leak(found - images) < space.leak(clipped - images) / 100  # clipping would leave the nullspace


def test_bounds_that_do_not_matter_give_the_projection() -> None:
    space = patch_nullspace(tiny_model())
    wanted = torch.randn(2, 3, 16, 16)
    wide = torch.full_like(wanted, 100.0)
    found = project_bounded(row_space(space), 4, wanted, -wide, wide)
    torch.testing.assert_close(found, space.project(wanted), rtol=0, atol=1e-4)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("hatched", [True, False])
def test_watermark_leaves_the_model_untouched(bounded: bool, hatched: bool) -> None:
    model = tiny_model()
    mark = text_mark("ns", 16, hatched=hatched)
    found = watermark(model, patch_nullspace(model), pictures(), mark, bounded=bounded)
    assert all(row["label_match"] for row in found.figures)
    assert max(row["logit_change"] for row in found.figures) < 5e-3
    assert max(abs(row["confidence_difference"]) for row in found.figures) < 2e-3
    assert min(row["contrast"] for row in found.figures) > 0.02  # and there is something to see
    with torch.no_grad():
        wanted = (model(found.wanted_BCHW) - model(pictures())).abs().max()
    assert wanted > 0.1  # the mark as wanted does reach the model


def test_retained_share_in_closed_form() -> None:
    """A wanted change inside the nullspace is kept whole; of any other one the share of its projection's energy."""
    model = tiny_model()
    space = patch_nullspace(model)
    images = 0.25 + 0.5 * pictures()
    mark = text_mark("ns", 16)
    found = watermark(model, space, images, mark, bounded=False)
    change = found.wanted_BCHW - images
    share = space.project(change).square().sum(dim=(1, 2, 3)) / change.square().sum(dim=(1, 2, 3))
    assert [row["retained"] for row in found.figures] == pytest.approx(share.tolist(), rel=1e-4)


def test_similarity_equals_scikit_image() -> None:
    first, second = pictures(1)[0], pictures(1, seed=9)[0]
    a, b = first.double().numpy(), second.double().numpy()
    assert psnr(first, second) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1))
    assert ssim(first, second) == pytest.approx(
        structural_similarity(
            a, b, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )
    assert ssim(first, first) == pytest.approx(1)
    from scipy.stats import pearsonr, spearmanr

    x, y = first[0], second[0] ** 2
    assert correlation(x, y) == pytest.approx(pearsonr(x.numpy().ravel(), y.numpy().ravel()).statistic, abs=1e-6)
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x.numpy().ravel(), y.numpy().ravel()).statistic)
    assert np.isnan(correlation(x, torch.zeros_like(x)))


def test_picture_mark_respects_transparency_and_place() -> None:
    logo = Image.new("RGBA", (4, 2), (255, 0, 0, 255))
    logo.putpixel((0, 0), (255, 0, 0, 0))
    mark = picture_mark(logo, 16, width=0.25, position="bottom-right", opacity=0.5)
    assert mark.opacity_1HW[0, 14:, 12:].flatten()[1:].tolist() == pytest.approx([0.5] * 7, abs=1e-6)
    assert mark.opacity_1HW[0, 14, 12] == 0
    assert mark.opacity_1HW.sum() == pytest.approx(3.5)
    grey = mark.over(torch.full((1, 3, 16, 16), 0.2))
    assert grey[0, :, 15, 15].tolist() == pytest.approx([0.6, 0.1, 0.1])


def test_disguise_keeps_class_and_maps_of_the_source() -> None:
    model = tiny_model()
    sources, targets = pictures(), pictures(seed=6)
    found = disguise(model, patch_nullspace(model), sources, targets)
    for record in found.figures:
        assert record["label_match"]
        assert record["logit_change"] < 5e-3
        assert record["approach"] > 0.1
        for alike in record["saliency"].values():
            assert alike["source"] > 0.999
            assert alike["target"] < 0.99
    same = disguise(model, patch_nullspace(model), sources, sources, methods=("rollout",))
    assert same.figures[0]["approach"] == 0
    assert torch.equal(same.images_BCHW, sources)


def test_errors_of_the_functions() -> None:
    model = tiny_model()
    space = patch_nullspace(model)
    with pytest.raises(UsageError, match="cannot become images"):
        edit(space, pictures(), torch.rand(3, 3, 8, 8))
    with pytest.raises(UsageError, match=r"outside \[0, 1\]"):
        edit(space, pictures() * 2, pictures())
    with pytest.raises(UsageError, match="a mark of 8x8 pixels does not fit images of 16x16"):
        watermark(model, space, pictures(), text_mark("ns", 8))
    with pytest.raises(UsageError, match="text of a mark is empty"):
        text_mark(" ", 16)
    with pytest.raises(UsageError, match="position 'middle' is none of centre"):
        text_mark("ns", 16, position="middle")
    with pytest.raises(UsageError, match="both are shares"):
        text_mark("ns", 16, opacity=2)
    with pytest.raises(UnknownName, match="saliency method"):
        disguise(model, space, pictures(), pictures(), methods=("lime",))


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["nullspace", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_commands_on_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    out, saved = tmp_path / "out", tmp_path / "saved"
    code, text = run("watermark", folder, "--text", "NS", "--ready", "--out", out, "--save", saved)
    assert code == 0, text
    record = json.loads((out / "watermark.vit_shapes10.json").read_text())
    assert record["facts"]["label match (%)"] == 100
    assert len(record["rows"]) == 2
    assert all((out / f"watermark.vit_shapes10.{kind}").stat().st_size > 1000 for kind in ("svg", "png"))
    assert "label_match" in record["data"]["records"][0]
    marked = np.asarray(Image.open(saved / "a.png"))
    assert (marked != np.asarray(Image.open(folder / "a.png"))).mean() > 0.01
    code, text = run("disguise", "--source", folder / "a.png", "--target", folder / "b.png", "--out", out)
    assert code == 0, text
    assert json.loads((out / "disguise.vit_shapes10.json").read_text())["facts"]["label match (%)"] == 100
    code, text = run("attention", "--out", out)
    assert code == 0, text
    assert len(json.loads((out / "attention.vit_shapes10.json").read_text())["rows"]) == 24


def test_command_errors_are_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    small = tmp_path / "small.png"
    Image.new("RGB", (40, 48)).save(small)
    empty = tmp_path / "empty"
    empty.mkdir()
    out = ("--out", tmp_path / "out")
    for words, expected in [
        (("watermark", broken, "--text", "NS", *out), "broken.png: cannot be decoded"),
        (("watermark", small, "--text", "NS", "--ready", *out), "small.png: an image of 40x48 pixels must not be"),
        (("watermark", empty, "--text", "NS", *out), "holds no pictures"),
        (("watermark", tmp_path / "no.png", "--text", "NS", *out), "no such picture file or folder"),
        (("watermark", small, *out), "either --text WORDS or --mark PICTURE"),
        (("watermark", small, "--text", "NS", "--mark", broken, *out), "either --text WORDS or --mark PICTURE"),
        (("watermark", small, "--mark", broken, *out), "broken.png: cannot be decoded"),
        (("watermark", small, "--text", "NS", "--per-channel", *out), "empty nullspace"),
        (("disguise", "--source", small, *out), "give both --source and --target"),
    ]:
        code, text = run(*words)
        assert code != 0, words
        assert expected in text, text
        assert len(text.strip().splitlines()) == 1, text


def test_hundred_real_images_keep_their_class(shared_data: Path) -> None:
    """On the real ViT-Tiny; a few of the hundred here, all of them in the slow test."""
    _real_images(shared_data, 3)


@pytest.mark.slow
def test_all_of_a_hundred_real_images_keep_their_class(shared_data: Path) -> None:
    _real_images(shared_data, 100)


def _real_images(shared_data: Path, n: int) -> None:
    from nsbench.data.decode import decode

    model = load_model("vit_tiny_patch16_224", checkpoint=shared_data / "weights/vit_tiny_patch16_224.safetensors")
    transform = model.preprocessing.transform()
    paths = sorted((shared_data / "imagenet/val").rglob("*.JPEG"))
    chosen = paths[:: len(paths) // n][:n]
    images = torch.stack([transform(decode(path)) for path in chosen]).float() / 255
    space = patch_nullspace(model)
    rows = [
        row for part in images.split(10) for row in watermark(model, space, part, text_mark("COPY\nRIGHT", 224)).figures
    ]
    assert len(rows) == n
    assert all(row["label_match"] for row in rows)
    assert max(abs(row["confidence_difference"]) for row in rows) < 0.01
    assert max(row["ssim"] for row in rows) < 0.95  # the mark is to be seen
