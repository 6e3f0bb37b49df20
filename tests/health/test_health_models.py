"""Health flags of real models: those with masked gradients raise theirs, honest ones none; the page shows them."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from health_rows import Row, linf, names
from test_evaluate import CLASSES, SIZE, Noise, pixels
from timm.models.vision_transformer import VisionTransformer

import nsbench.attacks  # fills the registry of attacks
from nsbench import report
from nsbench.health import Flag, flags
from nsbench.models import Model, Preprocessing
from nsbench.run.evaluate import evaluate
from nsbench.run.known import Memory
from nsbench.types import Condition


@pytest.fixture
def row(tmp_path: Path) -> Row:
    return Row(tmp_path)


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
        evaluations = [(one, evaluate(model, split, one, memory=memory)) for one in conditions]
        row.add(
            suite,
            {one.name: (one, found.outcomes, found.attack_card) for one, found in evaluations},
            outputs=memory.outputs,
        )
    return flags(row.results)


def test_an_honest_model_raises_nothing(row: Row) -> None:
    found = names(measured(row, tiny()))
    assert set(found) <= {"attack stopped early"}  # which is true of five steps
    curve = [one.accuracy for one in row.results[2].conditions]
    assert curve[0] > curve[-1]


@pytest.mark.parametrize("model", [lambda: tiny(Quantised), lambda: tiny(scale=1e5)], ids=["quantised", "saturated"])
def test_masked_gradients_are_flagged(row: Row, model: Callable[[], Model]) -> None:
    assert "zero gradients" in names(measured(row, model()))


def test_the_page_shows_flags_and_attack_cards(row: Row, tmp_path: Path) -> None:
    (flag, *_) = measured(row, tiny(Quantised))
    text = html.unescape(report.render(row.folder, tmp_path / "index.html").read_text())
    assert f"{flag.name}. {flag.sentence}" in text
    cards = re.findall(r"<summary>Attack card</summary>.*?</details>", text, re.DOTALL)
    assert len(cards) == 2  # fgsm and pgd; nothing was attacked in clean
    cells = re.findall(r"<td>(.*?)</td>", cards[1])
    assert cells[:3] == ["96", "ℓ∞", "1/255"]
    assert {"5", "6", f"nsbench {nsbench.__version__}"} <= set(cells)  # steps and backwards, forwards, library
