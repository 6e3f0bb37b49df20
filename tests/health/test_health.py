"""Health flags: models with masked gradients raise theirs, honest ones none, and noise raises nothing."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluate import CLASSES, SIZE, Noise, pixels
from timm.models.vision_transformer import VisionTransformer

import nsbench.attacks  # fills the registry of attacks
from nsbench import report
from nsbench.health import Flag, fisher_exact, flags, flags_by_row
from nsbench.models import Model, Preprocessing
from nsbench.results import Result, read_result, write_result
from nsbench.run.evaluate import Memory, evaluate
from nsbench.statistics import accuracy
from nsbench.types import Condition, Outcomes, ThreatModel

N = 400


def linf(k: float) -> ThreatModel:
    return ThreatModel("linf", k / 255)


class Row:
    """Stores results of one row, as the runner does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results = folder, []

    def add(
        self,
        suite: str,
        conditions: dict[str, tuple[Condition, Outcomes, dict]],
        seed: int = 0,
        outputs: dict | None = None,
    ) -> None:
        described = [
            {
                "name": name,
                "split": condition.split,
                "attack": condition.attack,
                "params": dict(condition.params),
                "threat": str(condition.threat) if condition.threat else None,
                "preprocess": "checkpoint",
                "n": len(one),
                "origin": "embedded",
                "data_digest": condition.split,
                "accuracy": 100 * float(one.correct.mean()),
                "attack_card": card,
            }
            for name, (condition, one, card) in conditions.items()
        ]
        outcomes = {name: one for name, (_, one, _) in conditions.items()}
        result = Result(
            source="noise",
            model="tiny",
            method="pretrained",
            suite=suite,
            seed=seed,
            score=accuracy(outcomes),
            unit="%",
            lower_is_better=False,
            title=suite.upper(),
            group="adversarial",
            order=1,
            paper=True,
            suite_version=1,
            summary="",
            citation="",
            method_title="",
            method_summary="",
            method_order=1,
            conditions=described,
            provenance={"weights_digest": "w", "outputs": outputs or {}},
            identity=suite,
        )
        self.results.append(read_result(write_result(self.folder, result, outcomes)))


@pytest.fixture
def row(tmp_path: Path) -> Row:
    return Row(tmp_path)


def right_on(hits: float, n: int = N, shift: int = 0, ids: str = "image", **extra: np.ndarray) -> Outcomes:
    """`hits` of n images right: those from `shift` on, wrapping around."""
    correct = (np.arange(n) - shift) % n < hits
    return Outcomes(
        np.array([f"{ids}{k:04d}" for k in range(n)]), np.zeros(n, dtype=np.int64), (~correct).astype(np.int64), extra
    )


CARDS = {
    kind: {"images": N, "forwards": forwards, "backwards": backwards}
    for kind, forwards, backwards in (("single", 1, 1), ("multi", 11, 10), ("black", 500, 0), ("foreign", 0, 0))
}


def attacked(kind: str, k: float, hits: float, **more) -> tuple[Condition, Outcomes, dict]:
    return Condition("x", attack=kind, threat=linf(k)), right_on(hits, **more), CARDS[kind]


def clean(hits: float, **more) -> tuple[Condition, Outcomes, dict]:
    return Condition("x"), right_on(hits, **more), {}


def names(found: list[Flag]) -> list[str]:
    return [flag.name for flag in found]


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        ("single", "single-step beats multi-step"),
        ("foreign", "transfer beats white-box"),
        ("black", "black-box beats white-box"),
    ],
)
def test_a_weaker_attack_that_wins_is_flagged_beyond_noise(tmp_path: Path, kind: str, flag: str) -> None:
    for better, budget, expected in [(300, 4, True), (300, 8, False), (300, 2, True), (104, 4, False), (80, 4, False)]:
        row = Row(tmp_path / f"{better} {budget}")
        row.add("clean", {"clean": clean(380)})
        row.add("weak", {"a": attacked(kind, budget, 100)})
        row.add("strong", {"a": attacked("multi", 4, better)})
        found = flags(row.results)
        assert (names(found) == [flag]) == expected, (better, budget, found)
        if expected:
            assert found[0].suites == ("weak", "strong")
            assert f"WEAK at linf {budget}/255 leaves 25.0 % right and STRONG at linf 4/255 75.0 %" in found[0].sentence
            assert "400 images, exact McNemar, p < 1e-6" in found[0].sentence
        else:
            assert not found


def test_pre_generated_images_count_as_transfer_in_their_own_budget(row: Row, tmp_path: Path) -> None:
    row.add("damagenet", {"d": (Condition("d", split="damagenet"), right_on(100, ids="other"), {})})
    row.add("pgd", {"a": attacked("multi", 8, 300)})
    assert not flags(row.results)  # 25.5/255 may well beat 8/255
    row.add("pgd26", {"a": attacked("multi", 26, 300)})
    (flag,) = flags(row.results)
    assert flag.name == "transfer beats white-box"
    assert "400 and 400 images, Fisher's exact test" in flag.sentence


@given(st.integers(1, 60), st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_fishers_exact_test_is_scipys(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    expected = scipy.stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
    assert fisher_exact(a, n, b, m) == pytest.approx(expected, rel=1e-6)


def test_robust_accuracy_above_clean(row: Row) -> None:
    row.add("clean", {"clean": clean(200)})
    row.add("damagenet", {"d": (Condition("d", split="damagenet"), right_on(205, ids="other"), {})})
    assert not flags(row.results)
    row.add("pgd", {"a": attacked("multi", 8, 260)})
    assert names(flags(row.results)) == ["robust accuracy above clean"]


def curve(kind: str, *hits: float) -> dict:
    return {f"{k}": attacked(kind, 2.0**k, h) for k, h in enumerate(hits)}


@pytest.mark.parametrize(
    ("kind", "hits", "flagged"),
    [
        ("multi", (300, 200, 100), False),
        ("multi", (300, 299, 298), False),
        ("multi", (10, 10, 10), False),
        ("multi", (300, 300, 300), True),
        ("multi", (300, 200, 260), True),
        ("single", (300, 100, 200), False),  # a single step overshoots
        ("single", (200, 100, 300), True),
        ("single", (300, 300), False),
    ],
)
def test_a_curve_that_does_not_fall(row: Row, kind: str, hits: tuple, flagged: bool) -> None:
    row.add("curve", curve(kind, *hits))
    found = flags(row.results)
    assert names(found) == (["curve does not fall"] if flagged else []), found


@pytest.mark.parametrize(("zero", "flagged"), [(0, False), (4, False), (20, True), (400, True)])
def test_zero_gradients(row: Row, zero: int, flagged: bool) -> None:
    condition, outcomes, card = attacked("multi", 4, 100)
    row.add("pgd", {"a": (condition, outcomes, card | {"zero_gradients": zero, "looked_at": N})})
    found = flags(row.results)
    assert names(found) == (["zero gradients"] if flagged else [])
    if flagged:
        assert f"exactly zero at {zero} of 400 images" in found[0].sentence


def test_predictions_that_differ_between_conditions(row: Row) -> None:
    for suite, hits in (("clean", 200), ("other", 201)):
        row.add(suite, {"clean": clean(hits)})
    assert not flags(row.results)  # one image of 400 may sit on a boundary
    row.add("third", {"clean": clean(210)})
    (flag,) = flags(row.results)
    assert flag.name == "random outputs"
    assert "9 of 400" in flag.sentence


def test_untouched_images_that_change_their_prediction(row: Row) -> None:
    untouched = np.zeros(N, dtype=np.float32)
    before = right_on(300).predictions
    row.add("cw", {"a": attacked("multi", 4, 250, linf=untouched, predictions_clean=before)})
    assert names(flags(row.results)) == ["random outputs"]
    row.results.clear()
    row.add("cw2", {"a": attacked("multi", 4, 250, linf=untouched + 1, predictions_clean=before)})
    assert not flags(row.results)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"images": 8, "probabilities": True, "repeat_change": 0.0}, ["softmax instead of logits"]),
        ({"images": 8, "probabilities": False, "repeat_change": 0.2}, ["random outputs"]),
        ({"images": 8, "probabilities": False, "repeat_change": 1e-4}, []),
        ({}, []),
    ],
)
def test_what_the_outputs_look_like(row: Row, outputs: dict, expected: list[str]) -> None:
    row.add("clean", {"clean": clean(300)}, outputs=outputs)
    assert names(flags(row.results)) == expected


def test_rows_are_kept_apart_and_unreadable_outcomes_take_no_part(row: Row) -> None:
    for seed in (0, 1):
        row.add("fgsm", {"a": attacked("single", 4, 100)}, seed)
    row.add("pgd", {"a": attacked("multi", 4, 300)}, 1)
    assert {key: names(found) for key, found in flags_by_row(row.results).items()} == {
        ("noise", "tiny", "pretrained", 1, "w"): ["single-step beats multi-step"]
    }
    path = row.results[-1].path
    assert path is not None
    path.with_suffix(".npz").unlink()
    assert not flags_by_row(row.results)


# --- real models ----------------------------------------------------------------------------------------------------


class Quantised(Model):
    """Sees 8 grey levels: the gradient of rounding is zero everywhere, the accuracy is unharmed."""

    def normalise(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return super().normalise((images_BCHW * 7).round() / 7)


def tiny(kind: type[Model] = Model, scale: float = 1.0) -> Model:
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=SIZE, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=CLASSES)
    torch.nn.init.normal_(vit.head.weight)
    vit.head.weight.data *= scale
    return kind(vit, name="tiny", preprocessing=Preprocessing(SIZE, 1.0), mean=(0.5,) * 3, std=(0.5,) * 3)


def measured(row: Row, model: Model) -> list[Flag]:
    """Flags after clean, fgsm and pgd at three budgets on pictures that the model gets right."""
    split, memory = Noise(96), Memory()
    with torch.no_grad():
        split.labels = model(pixels(split)).argmax(1).numpy()
    plans = {
        "clean": [Condition("clean")],
        "fgsm": [Condition(f"{k}", attack="fgsm", threat=linf(k)) for k in (1, 4, 8)],
        "pgd": [Condition(f"{k}", attack="pgd", threat=linf(k), params={"steps": 5}) for k in (1, 4, 8)],
    }
    for suite, conditions in plans.items():
        found = {}
        for condition in conditions:
            card: dict = {}
            found[condition.name] = (condition, evaluate(model, split, condition, memory=memory, card=card), card)
        row.add(suite, found, outputs=memory.outputs)
    return flags(row.results)


def test_an_honest_model_raises_nothing(row: Row) -> None:
    assert not measured(row, tiny())
    curve = [one["accuracy"] for one in row.results[2].conditions]
    assert curve[0] > curve[-1]


@pytest.mark.parametrize("model", [lambda: tiny(Quantised), lambda: tiny(scale=1e5)], ids=["quantised", "saturated"])
def test_masked_gradients_are_flagged(row: Row, model) -> None:
    assert "zero gradients" in names(measured(row, model()))


def test_the_page_shows_flags_and_attack_cards(row: Row, tmp_path: Path) -> None:
    (flag, *_) = measured(row, tiny(Quantised))
    text = html.unescape(report.render(row.folder, tmp_path / "index.html").read_text())
    assert f"{flag.name}. {flag.sentence}" in text
    cards = re.findall(r"<summary>Attack card</summary>.*?</details>", text, re.DOTALL)
    assert len(cards) == 2  # fgsm and pgd; nothing was attacked in clean
    cells = re.findall(r"<td>(.*?)</td>", cards[1])
    assert cells[:3] == ["96", "linf", "1/255"]
    assert {"5", "6", f"nsbench {nsbench.__version__}"} <= set(cells)  # steps and backwards, forwards, library
