"""The judge: it masks classes, distrusts attacks, and does not depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from nsbench import registry
from nsbench.data.source import Split, digest_of
from nsbench.errors import AttackError, ModelError
from nsbench.evaluate import evaluate
from nsbench.models import Model, Preprocessing
from nsbench.types import Condition, ThreatModel

SIZE, CLASSES = 16, 5


class Noise(Split):
    """Random pictures with labels that the model gets right about half of the time."""

    def __init__(self, n: int, labels: np.ndarray | None = None, classes: tuple[int, ...] | None = None) -> None:
        self.name, self.classes = "clean", classes
        self.ids = np.array([f"noise/{k:03d}" for k in range(n)])
        self.labels = np.zeros(n, dtype=np.int64) if labels is None else labels

    def load(self, index: int) -> Image.Image:
        pixels = np.random.default_rng(index).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    @property
    def digest(self) -> str:
        return digest_of(*self.ids, *self.labels)


def pixels(split: Split) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(split.load(k))).permute(2, 0, 1) for k in range(len(split))]) / 255


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=SIZE, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=CLASSES)
    torch.nn.init.normal_(vit.head.weight)
    return Model(vit, name="tiny", preprocessing=Preprocessing(SIZE, 1.0), mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture
def right(model: Model) -> Noise:
    """Pictures with the model's own predictions as labels, every third one wrong."""
    split = Noise(31)
    with torch.no_grad():
        split.labels = model(pixels(split)).argmax(1).numpy()
    split.labels[::3] = (split.labels[::3] + 1) % CLASSES
    return split


@pytest.fixture
def attack_named(monkeypatch: pytest.MonkeyPatch):
    """Register an attack for one test."""
    def register(function) -> str:
        monkeypatch.setitem(registry.attacks._items, "cheat", function)
        return "cheat"

    return register


def test_clean_predictions_are_the_models(model: Model, right: Noise) -> None:
    outcomes = evaluate(model, right, Condition("clean"))
    with torch.no_grad():
        expected = model(pixels(right)).argmax(1).numpy()
    np.testing.assert_array_equal(outcomes.predictions, expected)
    assert outcomes.correct.sum() == 31 - len(range(0, 31, 3))
    np.testing.assert_array_equal(outcomes.ids, right.ids)


def test_class_subset_by_brute_force(model: Model) -> None:
    split = Noise(40, classes=(4, 1))
    outcomes = evaluate(model, split, Condition("subset"), batch_size=7)
    with torch.no_grad():
        logits = model(pixels(split)).numpy()
    expected = [max((4, 1), key=lambda c: row[c]) for row in logits]
    assert outcomes.predictions.tolist() == expected
    np.testing.assert_array_equal(outcomes.extra["predictions_all"], logits.argmax(1))


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_batch_size_moves_nothing(model: Model, right: Noise, name: str) -> None:
    import nsbench.attacks  # noqa: F401

    condition = Condition("attack", attack=name, threat=ThreatModel("linf", 4 / 255))
    first, *others = [evaluate(model, right, condition, batch_size=size) for size in (64, 1, 7)]
    for other in others:
        np.testing.assert_array_equal(first.predictions, other.predictions)
        np.testing.assert_allclose(first.extra["l2"], other.extra["l2"], atol=1e-5)
    assert first.extra["linf"].max() <= 4 / 255 + 1e-6


def test_wrong_images_are_not_attacked_and_count_as_broken(model: Model, right: Noise, attack_named) -> None:
    seen: list[str] = []

    def spy(model, images, labels, *, ids, seed, threat):
        seen.extend(ids)
        return images

    outcomes = evaluate(model, right, Condition("spy", attack=attack_named(spy), threat=ThreatModel("linf", 0.1)))
    assert seen == [image_id for k, image_id in enumerate(right.ids) if k % 3]
    assert not outcomes.correct[::3].any()
    assert outcomes.correct[np.arange(31) % 3 > 0].all()


CHEATS = {
    "beyond linf 8/255": lambda images: (images + 9 / 255).clamp(0, 1),
    "outside [0, 1]": lambda images: images - 2,
    "not finite": lambda images: images * torch.nan,
    "shape": lambda images: images[:, :, :-1],
}


@pytest.mark.parametrize("message", CHEATS)
def test_cheating_attacks_are_caught(model: Model, right: Noise, attack_named, message: str) -> None:
    def cheat(model, images, labels, **_):
        return CHEATS[message](images)

    condition = Condition("cheat", attack=attack_named(cheat), threat=ThreatModel("linf", 8 / 255))
    with pytest.raises(AttackError) as caught:
        evaluate(model, right, condition)
    assert message in str(caught.value)


def test_patches_beyond_the_allowed_are_caught(model: Model, right: Noise, attack_named) -> None:
    def two_patches(model, images, labels, **_):
        changed = images.clone()
        changed[:, :, 7:9, 0] = 1 - changed[:, :, 7:9, 0]
        return changed

    name = attack_named(two_patches)
    evaluate(model, right, Condition("two", attack=name, threat=ThreatModel("patch", patches=2)))
    with pytest.raises(AttackError, match="more than 1 patch"):
        evaluate(model, right, Condition("one", attack=name, threat=ThreatModel("patch", patches=1)))


def test_logits_that_are_no_numbers_name_the_image(model: Model, right: Noise, monkeypatch) -> None:
    def broken(images, noise=None):
        return torch.full((len(images), CLASSES), torch.nan)

    monkeypatch.setattr(model, "forward", broken)
    with pytest.raises(ModelError, match="noise/000"):
        evaluate(model, right, Condition("clean"))


def test_the_model_is_left_as_it_was(model: Model, right: Noise) -> None:
    model.train()
    evaluate(model, right, Condition("a", attack="fgsm", threat=ThreatModel("linf", 1 / 255)))
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    model.eval()
