"""The laboratory's commands: their tables and figures, the page of a folder, and what they say of bad input."""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import made
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from timm.models.vision_transformer import VisionTransformer

from nsbench.cli import main
from nsbench.errors import UsageError
from nsbench.laboratory import Bench, Images
from nsbench.laboratory.dark import natural_width
from nsbench.laboratory.figures import PALETTE, new_figure, titles
from nsbench.laboratory.geometry import geometry_sheet
from nsbench.laboratory.layers import layers_sheet
from nsbench.laboratory.learn import learn_sheet
from nsbench.laboratory.page import Sheet, read_sheets, shown, to_page, write_sheet
from nsbench.laboratory.scatter import _correlation, scatter_sheet
from nsbench.laboratory.trace import published_influence, trace_figure
from nsbench.models import Model, Preprocessing, weights_digest
from nsbench.results import NoiseOfRound, Round
from nsbench.statistics import accuracy
from nsbench.types import Outcomes

SIDE = 8


def pictures(n: int = 12, side: int = SIDE) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(4))


def invoke(*arguments: object) -> str:
    done = CliRunner().invoke(main, ["nullspace", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def test_dims_reproduces_table_1(tmp_path: Path) -> None:
    invoke("dims", "--models", "vit_tiny_patch16_224,vit_small_patch32_224,vit_base_patch16_224", "--out", tmp_path)
    (sheet,), problems = read_sheets(tmp_path)
    assert not problems
    found = {row[0]: dict(zip(sheet["columns"], row, strict=True)) for row in sheet["rows"]}
    for model, numbers in {
        "vit_tiny_patch16_224": (768, 192, 192, 576, 576),
        "vit_small_patch32_224": (3072, 384, 384, 2688, 2688),
        "vit_base_patch16_224": (768, 768, 768, 0, 2),
    }.items():
        assert tuple(found[model][key] for key in ("P", "D", "rank", "nullspace dim.", "published")) == numbers


def test_sample_and_page(tmp_path: Path) -> None:
    invoke("sample", "--images", 2, "--norms", "1,100", "--out", tmp_path)
    record = json.loads((tmp_path / "sample.vit_shapes10.json").read_text())
    change = {(row[0], row[2]): row[3] for row in record["rows"]}
    assert change["whole matrix", 100] < 1e-4 < change["random", 100]
    assert all((tmp_path / f"{stem}.svg").stat().st_size > 1000 for stem in record["figures"])
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/") == len(record["figures"])
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert invoke("report", "--out", tmp_path).strip() == str(tmp_path / "index.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--norms", "1,x"], "--norms 1,x: give numbers"),
        (["layers", "--layer", "11", "--images", "8", "--val-images", "4"], "layer '11': model 'vit_shapes10' has"),
        (["trace", "--results", "nowhere"], "holds no training of the method that is asked about"),
        (["report", "--out", "nowhere"], "--out nowhere: is not a folder"),
        (["dims", "--models", "vit_huge_nothing"], "unknown model 'vit_huge_nothing'"),
        (["sample", "--model", "vit_tiny_patch16_224"], "is not in"),
    ],
)
def test_bad_input_of_commands(arguments: list[str], message: str, tmp_path: Path) -> None:
    if "--out" not in arguments:
        arguments = [*arguments, "--out", str(tmp_path)]
    done = CliRunner().invoke(main, ["nullspace", *arguments])
    assert done.exit_code in (1, 2)
    assert message in done.output.replace("\n", " ")


def test_sheet_escapes_and_survives_nan(tmp_path: Path) -> None:
    sheet = Sheet("demo", "a/b <i>", "T", "<b>bold</b>", ["x", "y"], [["<script>", float("nan")], ["z", 0.00012345]])
    write_sheet(sheet, tmp_path)
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    found, problems = read_sheets(tmp_path)
    assert [one["rows"] for one in found] == [[["<script>", None], ["z", 0.00012345]]]
    assert len(problems) == 1
    assert "broken.json" in problems[0]
    page = to_page(found, tmp_path, problems)
    assert "<script>" not in page
    assert "&lt;b&gt;bold" in page
    assert (tmp_path / "demo.a_b_i_.csv").read_text() == "x,y\n<script>,nan\nz,0.00012345\n"


def test_shown_values() -> None:
    assert [shown(value) for value in (None, True, 1234, 0.000123456, "a", float("nan"))] == [
        "–",
        "yes",
        "1,234",
        "0.0001235",
        "a",
        "–",
    ]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A laboratory with a small model and pictures at hand, so that nothing has to be drawn."""
    from nsbench.run.opening import open_source

    vit = VisionTransformer(img_size=SIDE, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.copy_((parameter.mean() == 1).float() + 0.4 * torch.randn(parameter.shape, generator=draws))
    model = Model(vit, name="small", preprocessing=Preprocessing(SIDE), mean=(0.5,) * 3, std=(0.5,) * 3)
    held = {(split, n): Images(pictures(n), torch.zeros(n), []) for split, n in (("train", 24), ("clean", 8))}
    return Bench(model, open_source("shapes10"), 0, "cpu", tmp_path, held=held)


def test_layers_sheet_compares_at_equal_influence(bench: Bench) -> None:
    sheet = layers_sheet(bench, places=["input", "0", "2"], images=24, val_images=8, epsilon=0.05, max_steps=200)
    rows = {row[0]: dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows}
    assert [rows[place]["shape"] for place in ("input", "0", "2")] == ["3 x 8 x 8", "4 x 16", "5 x 16"]
    assert rows["0"]["inside epsilon"]
    assert rows["2"]["inside epsilon"]
    for row in rows.values():
        assert row["learnt / random, val"] == pytest.approx(row["norm, learnt"] / row["random, val"])
    # after the last block only the class token is read: the other tokens are an exact nullspace, and learning finds it
    assert rows["2"]["learnt / random, val"] > 1.5
    assert (bench.out / "layers.small.svg").is_file()


def test_geometry_and_learn_sheets(bench: Bench) -> None:
    sheet = geometry_sheet(
        bench,
        noises=2,
        pairs=1,
        images=24,
        val_images=8,
        epsilon=0.05,
        alphas=[0.0, 1.0],
        grid=[0.0, 0.5, 1.0],
        max_steps=150,
    )
    assert sheet.rows[0][1:] == pytest.approx([0, 0])
    grid = sheet.data["mse_probability"]
    assert (grid[0][2] + grid[2][0]) / 2 == pytest.approx(sheet.rows[1][1])  # (1, 0) and (0, 1) are the noises
    learnt = learn_sheet(bench, lambdas=[0.0, 50.0], limits=[1.0], images=24, val_images=8, lr=0.5, passes=3)
    assert learnt.rows[1][2] > learnt.rows[0][2]  # a larger lambda, a larger noise


def test_trace_of_the_stored_results(tmp_path: Path) -> None:
    invoke("trace", "--results", Path(__file__).parents[2] / "reports/showcase/shapes10/results", "--out", tmp_path)
    (sheet,), _ = read_sheets(tmp_path)
    assert {"step", "noise norm, l2", "MSE probability, held out"} <= set(sheet["columns"])
    assert sheet["data"]["published"] == [list(point) for point in published_influence()]
    assert all(row[2] > 0 for row in sheet["rows"])


def rounds(*norms: float) -> tuple[Round, ...]:
    """Of a training that learnt noise of these norms, was watched, and had a first round without noise."""
    noisy = tuple(
        Round(
            2 + k,
            20 * (2 + k),
            1e-4,
            {"noisy": 0.5},
            NoiseOfRound(norm, 0.02, 0.01, steps=10 * (k + 1), converged=k > 0),
            {"clean": 90.0 + k, "fgsm": 30.0 + k},
        )
        for k, norm in enumerate(norms)
    )
    return (Round(1, 20, 1e-4, {"clean": 1.0}), *noisy)


def test_trace_takes_the_method_that_is_asked_about_by_its_role(tmp_path: Path) -> None:
    """Of other names and several seeds; what a round was watched by and what its noise was stand in the table."""
    for seed, norms in enumerate([(1.0, 2.0, 3.0), (3.0, 2.0)]):
        made.stored(
            tmp_path / "results",
            {"clean": Outcomes(np.array(["a", "b"]), np.zeros(2, int), np.zeros(2, int))},
            method="other",
            method_role="subject",
            seed=seed,
            recipe=made.recipe(seed=seed, epsilon=0.03),
            history=rounds(*norms),
            fit_key=f"{seed}" * 16,
        )
    invoke("trace", "--results", tmp_path / "results", "--out", tmp_path / "out")
    (sheet,), problems = read_sheets(tmp_path / "out")
    assert not problems
    assert sheet["subject"] == "shapes10.vit_shapes10.other"
    assert sheet["columns"][-2:] == ["clean, %", "fgsm, %"]
    assert sheet["rows"][0] == ["other, seed 0", 40, 1.0, 10, False, 0.01, 0.02, 90.0, 30.0]
    assert [row[:3] for row in sheet["rows"][3:]] == [["other, seed 1", 40, 3.0], ["other, seed 1", 60, 2.0]]
    assert sheet["facts"]["epsilon"] == 0.03
    assert "other, seed 0: the norm goes from 1 to 3; Spearman's rho of norm and round 1.00." in sheet["notes"]
    done = CliRunner().invoke(
        main, ["nullspace", "trace", "--results", str(tmp_path / "results"), "--method", "ns", "--out", str(tmp_path)]
    )
    assert done.exit_code == 2
    assert "holds no training of method 'ns' with noise" in done.output.replace("\n", " ")


def test_rank_correlation() -> None:
    rho, p, words = _correlation([1, 2, 3, 4, 5], [10, 20, 30, 40, 50])
    assert rho == pytest.approx(1)
    assert p == pytest.approx(2 / math.factorial(5))  # exact: both extreme orders of 120
    assert "5 methods" in words
    assert _correlation([1, 2, 3], [1, 2, 3])[0] is None
    assert _correlation([1, 2, 3, 4], [1, 2, float("nan"), 4])[0] is None


def test_published_influence_is_below_epsilon() -> None:
    assert [step for step, _ in published_influence()][:3] == [40, 120, 160]
    assert max(value for _, value in published_influence()) == 0.029


def test_scatter_of_two_methods(bench: Bench, tmp_path: Path) -> None:
    """Of one set of weights, which is at hand: the same noise beside the scores that each method has in a group."""
    for key, (method, right) in enumerate({"first": 6, "second": 9}.items()):
        for suite, group in (("clean", "clean"), ("fgsm", "adversarial"), ("imagenet_r", "ood")):
            images = Outcomes(np.arange(10).astype(str), np.zeros(10, int), (np.arange(10) >= right).astype(int))
            made.stored(
                tmp_path / "results",
                {suite: images},
                model=bench.model.name,
                method=method,
                method_order=key,
                suite=suite,
                group=group,
                score=accuracy({suite: images}),
                weights_digest=weights_digest(bench.model),
                fit_key=f"{key}" * 16,
            )
    sheet = scatter_sheet(bench, tmp_path / "results", images=24, epsilon=0.05, max_steps=30, noises=1)
    assert [row[0] for row in sheet.rows] == ["first", "second"]
    assert sheet.rows[0][1:5] == sheet.rows[1][1:5]
    assert [row[5:] for row in sheet.rows] == [[60.0] * 3, [90.0] * 3]
    assert (bench.out / "scatter.small.svg").is_file()
    with pytest.raises(UsageError, match="the weights of 0 are on this machine"):
        scatter_sheet(bench, tmp_path / "nothing", images=24, epsilon=0.05, max_steps=30, noises=1)


def test_scatter_says_in_a_line_that_weights_of_a_folder_are_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path / "cache"))
    showcase = Path(__file__).parents[2] / "reports/showcase/shapes10/results"
    done = CliRunner().invoke(main, ["nullspace", "scatter", "--results", str(showcase), "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert f"nsbench: --results {showcase}: of the methods that were run there" in done.output
    assert "point NSBENCH_CACHE to" in done.output
    assert "safetensors" not in done.output


def test_the_papers_set_up_of_figure_3_and_what_is_given_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr("nsbench.laboratory.learn.learn_sheet", lambda bench, **settings: asked.update(settings))
    told = invoke("learn", "--imagenette")
    assert (asked["images"], asked["val_images"], asked["lr"]) == (9469, 3925, 0.02)
    assert "clean: 1,000 images, where ImageNette has 3,925" in told
    assert "train" not in told
    invoke("learn", "--imagenette", "--images", 64, "--lr", 1)
    assert (asked["images"], asked["val_images"], asked["lr"]) == (64, 3925, 1)
    invoke("learn")
    assert (asked["images"], asked["val_images"], asked["lr"]) == (1024, 128, 3)


def test_figures_follow_the_page_into_the_dark_and_stay_readable_on_a_phone(tmp_path: Path) -> None:
    figure, axes = new_figure(1, 2)
    for place in axes[0]:
        place.plot([0, 1], [0, 1], color=PALETTE[0])
        titles(place, "one", "x", "y")
    write_sheet(Sheet("dims", "a", "A title", "Words.", [], []), tmp_path, {"": figure})
    page = (tmp_path / "index.html").read_text()
    (uri,) = re.findall(r"data:image/svg\+xml;base64,([^\"]*)", page)
    drawn, wide = base64.b64decode(uri).decode(), 800
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    style = drawn[drawn.index("prefers-color-scheme:dark") :].partition("</style>")[0]
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawn.partition("</style>")[2])) <= {
        light for light in re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", style)
    }, "a colour that stays as it is in the dark"
    assert (natural_width(drawn) or 0) > wide
    assert f"min-width: {round(0.8 * (natural_width(drawn) or 0))}px" in page
    assert "<style>@media" not in (tmp_path / "dims.a.svg").read_text()  # the file is as it was drawn


def test_a_training_has_one_colour_in_all_panels() -> None:
    rounds = [Round(round=k, step=k, lr=0.1, losses={}, seconds=1.0, noise=noise_of(k)) for k in (1, 2)]
    fits = [SimpleNamespace(label=f"ns, seed {seed}", history=rounds) for seed in (0, 1)]
    norm, influence = trace_figure(fits, [], [(1, 0.02)], 0.03).axes
    colours = [line.get_color() for line in norm.lines]
    assert colours == list(PALETTE[:2])
    assert [line.get_color() for line in influence.lines[:4]] == [colours[0]] * 2 + [colours[1]] * 2
    assert [line.get_markerfacecolor() == "none" for line in influence.lines[:4]] == [False, True, False, True]


def noise_of(k: int) -> NoiseOfRound:
    return NoiseOfRound(
        norm=1.0 * k, steps=k, converged=True, mse_probability=0.01 * k, mse_probability_held_out=0.02 * k
    )
