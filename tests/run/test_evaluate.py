"""The judge: it masks classes, distrusts attacks, and does not depend on the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

import nsbench.attacks  # noqa: F401  (fills the registry of attacks)
from nsbench import processes, registry
from nsbench.data.source import Split, Subset, digest_of
from nsbench.errors import AttackError, CorruptImage, DataError, ModelError
from nsbench.models import Model, Preprocessing
from nsbench.progress import Progress
from nsbench.results import AttackCard
from nsbench.run.evaluate import Evaluation, evaluate
from nsbench.run.judge import LOOKED_AT, look_at_outputs
from nsbench.run.known import Memory
from nsbench.run.parts import part_of, parts_of, whole
from nsbench.types import PROBABILITY_STEP, Attack, Condition, ThreatModel

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
        monkeypatch.setitem(registry.attacks._items, "cheat", Attack("cheat", function))
        return "cheat"

    return register


def test_clean_predictions_are_the_models(model: Model, right: Noise) -> None:
    outcomes = evaluate(model, right, Condition("clean")).outcomes
    with torch.no_grad():
        expected = model(pixels(right)).argmax(1).numpy()
    np.testing.assert_array_equal(outcomes.predictions, expected)
    assert outcomes.correct.sum() == 31 - len(range(0, 31, 3))
    np.testing.assert_array_equal(outcomes.ids, right.ids)


def test_class_subset_by_brute_force(model: Model) -> None:
    split = Noise(40, classes=(4, 1))
    outcomes = evaluate(model, split, Condition("subset"), batch_size=7).outcomes
    with torch.no_grad():
        logits = model(pixels(split)).numpy()
    expected = [max((4, 1), key=lambda c: row[c]) for row in logits]
    assert outcomes.predictions.tolist() == expected
    np.testing.assert_array_equal(outcomes.extra["predictions_all"], logits.argmax(1))


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_batch_size_moves_nothing(model: Model, right: Noise, name: str) -> None:
    condition = Condition("attack", attack=name, threat=ThreatModel("linf", 4 / 255))
    first, *others = [evaluate(model, right, condition, batch_size=size).outcomes for size in (64, 1, 7)]
    for other in others:
        np.testing.assert_array_equal(first.predictions, other.predictions)
        np.testing.assert_allclose(first.extra["l2"], other.extra["l2"], atol=1e-5)
    assert first.extra["linf"].max() <= 4 / 255 + 1e-6


def test_wrong_images_are_not_attacked_and_count_as_broken(model: Model, right: Noise, attack_named) -> None:
    seen: list[str] = []

    def spy(model, images, labels, *, ids, seed, threat):
        seen.extend(ids)
        return images

    outcomes = evaluate(
        model, right, Condition("spy", attack=attack_named(spy), threat=ThreatModel("linf", 0.1))
    ).outcomes
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


class Counted:
    """How many images went through the model."""

    def __init__(self, model: Model) -> None:
        self.images = 0
        self.hook = model.register_forward_pre_hook(self._count)

    def _count(self, module, arguments) -> None:
        self.images += len(arguments[0])


@pytest.fixture
def counted(model: Model):
    counter = Counted(model)
    yield counter
    counter.hook.remove()


LINF = ThreatModel("linf", 4 / 255)


def test_clean_predictions_are_computed_once(model: Model, right: Noise, counted: Counted) -> None:
    memory = Memory()
    fgsm = Condition("fgsm", attack="fgsm", threat=LINF)
    first = evaluate(model, right, fgsm, memory=memory).outcomes
    attacked = int((first.extra["predictions_clean"] == right.labels).sum())
    tried = 2  # of one image: whether the last block may be shortened
    # clean, a look at the outputs; attack, judge, 8 bits
    assert counted.images == 31 + 2 * LOOKED_AT + tried + 3 * attacked
    counted.images = 0
    second = evaluate(model, right, fgsm, memory=memory).outcomes
    assert counted.images == tried + 3 * attacked
    for name, values in first.extra.items():
        np.testing.assert_array_equal(values, second.extra[name], err_msg=name)
    counted.images = 0
    clean = evaluate(model, right, Condition("clean"), memory=memory).outcomes
    np.testing.assert_array_equal(clean.predictions, first.extra["predictions_clean"])
    assert counted.images == 0


def test_a_subset_shares_what_is_known_of_the_whole(model: Model, right: Noise, counted: Counted) -> None:
    memory = Memory()
    subset = evaluate(model, right.limited(12).limited(9), Condition("few"), memory=memory).outcomes
    assert counted.images == 9 + 2 * LOOKED_AT
    whole = evaluate(model, right, Condition("all"), memory=memory).outcomes
    assert counted.images == 31 + 2 * LOOKED_AT
    expected = evaluate(model, right, Condition("all")).outcomes
    np.testing.assert_array_equal(whole.predictions, expected.predictions)
    where = np.searchsorted(whole.ids, subset.ids)
    np.testing.assert_array_equal(subset.predictions, expected.predictions[where])


def test_other_preparation_or_classes_are_other_predictions(model: Model, counted: Counted) -> None:
    memory, before = Memory(), 2 * LOOKED_AT
    for n, (classes, preprocess) in enumerate([(None, "checkpoint"), (None, "none"), ((1, 4), "none")], 1):
        evaluate(model, Noise(20, classes=classes), Condition("one", preprocess=preprocess), memory=memory)
        assert counted.images == before + 20 * n


@pytest.mark.parametrize("classes", [None, (0, 1, 3), (3, 0, 1)])
def test_probabilities_are_the_softmax_over_the_splits_classes(model: Model, classes: tuple[int, ...] | None) -> None:
    labels = np.array([0, 1, 3] * 7)
    split = Noise(21, labels, classes)
    outcomes = evaluate(model, split, Condition("clean"), batch_size=8).outcomes
    names = np.array(classes or range(CLASSES))
    with torch.no_grad():
        probability = model(pixels(split))[:, names].softmax(dim=1).numpy()
    order = np.argsort(-probability, axis=1, kind="stable")
    assert outcomes.label_probability is not None
    assert outcomes.confidence is not None
    assert outcomes.top5 is not None
    own = probability[np.arange(21), (names == labels[:, None]).argmax(axis=1)]
    np.testing.assert_allclose(outcomes.label_probability, own, atol=PROBABILITY_STEP)
    np.testing.assert_allclose(outcomes.confidence, probability.max(axis=1), atol=PROBABILITY_STEP)
    np.testing.assert_array_equal(outcomes.top5, names[order][:, :5])
    np.testing.assert_array_equal(outcomes.top5[:, 0], outcomes.predictions)
    steps = outcomes.confidence / PROBABILITY_STEP
    np.testing.assert_array_equal(steps, steps.round())


def test_probabilities_of_attacked_images_are_those_of_the_adversarial_ones(model: Model, right: Noise) -> None:
    one = evaluate(model, right, Condition("eps", attack="fgsm", threat=ThreatModel("linf", 8 / 255)), batch_size=7)
    clean = evaluate(model, right, Condition("clean"))
    before, after = clean.outcomes, one.outcomes
    assert before.label_probability is not None
    assert after.label_probability is not None
    untouched = ~before.correct
    np.testing.assert_array_equal(after.label_probability[untouched], before.label_probability[untouched])
    assert (after.label_probability[~untouched] < before.label_probability[~untouched]).mean() > 0.8
    assert after.top5 is not None
    np.testing.assert_array_equal(after.top5[:, 0], after.predictions)


def test_attacks_get_full_batches(model: Model, right: Noise, attack_named) -> None:
    sizes: list[int] = []

    def spy(model, images, labels, **_):
        sizes.append(len(images))
        return images

    evaluate(model, right, Condition("spy", attack=attack_named(spy), threat=LINF), batch_size=8)
    assert sizes == [8, 8, 4]  # 20 of 31 are right; batches of 8 of the split hold 5 or 6 of these


def test_attacks_search_on_the_short_form_and_the_whole_model_judges(model: Model, right: Noise, attack_named) -> None:
    seen: dict[str, list[tuple[int, bool]]] = {"attack": [], "model": []}

    def spy(model, images, labels, **_):
        seen["attack"].append((len(images), model.class_token_only))
        return images

    hook = model.register_forward_pre_hook(
        lambda model, given: seen["model"].append((len(given[0]), model.class_token_only))
    )
    evaluate(model, right, Condition("spy", attack=attack_named(spy), threat=LINF), batch_size=20)
    hook.remove()
    assert seen["attack"] == [(20, True)]
    assert seen["model"][-2:] == [(20, False)] * 2  # as they came back, and in 8 bits
    assert seen["model"].count((1, False)) == 2  # whether the forms agree is tried once: whole, and short


class Torn(Noise):
    """Some pictures cannot be read, and every reading is counted."""

    torn = (1, 7)
    loads = 0

    def load(self, index: int) -> Image.Image:
        type(self).loads += 1
        if index in self.torn:
            raise CorruptImage(f"{self.ids[index]}: torn")
        return super().load(index)


def test_unreadable_images_are_remembered_and_named_by_every_condition(model: Model, right: Noise) -> None:
    split, memory = Torn(31, right.labels), Memory()
    for condition in (Condition("clean"), Condition("fgsm", attack="fgsm", threat=LINF), Condition("clean")):
        one = evaluate(model, split, condition, memory=memory, leave_out=True)
        outcomes, unreadable = one.outcomes, one.unreadable
        assert unreadable == {f"noise/{k:03d}": f"noise/{k:03d}: torn" for k in Torn.torn}
        assert outcomes.ids.tolist() == [i for i in split.ids if i not in unreadable]
    with pytest.raises(CorruptImage, match="torn"):
        evaluate(model, split, Condition("clean"), memory=memory)
    with pytest.raises(DataError, match="none of its 2 images"):
        evaluate(model, Subset(split, np.array(Torn.torn)), Condition("clean"), leave_out=True)


@pytest.mark.parametrize("condition", [Condition("clean"), Condition("fgsm", attack="fgsm", threat=LINF)])
def test_a_part_of_which_no_image_can_be_read_adds_nothing(model: Model, right: Noise, condition: Condition) -> None:
    class Half(Torn):
        torn = tuple(range(31)[processes.share(31, 1, 3)])

    def in_parts(split: Split) -> Evaluation:
        shares = [part_of([split], 12, k)[0] for k in range(parts_of([split], 12))]
        found = [evaluate(model, one, condition, leave_out=True, may_be_empty=True) for one in shares if one]
        return whole([condition], [{condition.name: one} for one in found])[condition.name]

    split = Half(31, right.labels)
    one, parts = evaluate(model, split, condition, leave_out=True), in_parts(split)
    assert len(one.outcomes) == 31 - len(Half.torn)
    assert parts.unreadable == one.unreadable
    for field in fields(one.outcomes):
        np.testing.assert_equal(getattr(parts.outcomes, field.name), getattr(one.outcomes, field.name))
    Half.torn = tuple(range(31))
    with pytest.raises(DataError, match="split 'clean': none of its 31 images can be read"):
        in_parts(Half(31, right.labels))


def test_only_what_is_attacked_is_read_again(model: Model, right: Noise) -> None:
    class Read(Torn):
        torn, loads = (), 0

    split, memory = Read(31, right.labels), Memory()
    evaluate(model, split, Condition("clean"), memory=memory)
    assert Read.loads == 31
    evaluate(model, split, Condition("fgsm", attack="fgsm", threat=LINF), memory=memory)
    assert Read.loads == 31 + 20


def card_of(one: Evaluation) -> AttackCard:
    assert one.attack_card is not None
    return one.attack_card


def test_attack_card_counts_and_describes(model: Model, right: Noise) -> None:
    card = card_of(evaluate(model, right, Condition("fgsm", attack="fgsm", threat=LINF), batch_size=7))
    assert card.images == 20
    assert (card.forwards, card.backwards, card.zero_gradients, card.looked_at) == (1, 1, 0, 20)
    assert card.seconds > 0
    condition = Condition("pgd", attack="pgd", threat=LINF, params={"steps": 3, "early_stop": False, "restarts": 2})
    one = evaluate(model, right, condition)
    card, outcomes = card_of(one), one.outcomes
    first_broken = int((~outcomes.correct[np.arange(31) % 3 > 0]).sum())
    assert (card.steps, card.restarts, card.start) == (3, 2, "random in the budget")
    assert 6 - 3 * first_broken / 20 <= card.backwards <= 6  # what the first restart broke is not tried again
    assert card.forwards == pytest.approx(card.backwards * 4 / 3, abs=2e-3)


@pytest.mark.parametrize(
    ("name", "threat"), [("cw", ThreatModel("l2")), ("patchfool", ThreatModel("patch", patches=1))]
)
def test_gradients_are_counted_wherever_they_leave_the_model(
    model: Model, right: Noise, name: str, threat: ThreatModel
) -> None:
    """cw goes back once per step but the last; patchfool once more for each layer that it watches."""
    split = Subset(right, np.array([1]))
    calls = []
    original = torch.autograd.grad
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or original(*a, **k))
        card = card_of(evaluate(model, split, Condition("one", attack=name, threat=threat, params={"steps": 4})))
    assert calls
    assert card.backwards == len(calls)
    assert card.zero_gradients == 0


def test_facts_of_an_attack_reach_its_card(model: Model, right: Noise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.attacks, "_items", dict(registry.attacks._items))

    @registry.attack(loss="margin", start="the image", steps=1, library="numpy")
    def elsewhere(model, images, labels, **_):
        return images

    card = card_of(evaluate(model, right, Condition("one", attack="elsewhere", threat=ThreatModel("l2"))))
    assert (card.loss, card.start, card.steps) == ("margin", "the image", 1)
    assert card.library == f"numpy {np.__version__}"
    assert (card.forwards, card.backwards, card.looked_at) == (0, 0, 0)


def test_outputs_that_are_no_logits_or_do_not_repeat(model: Model, right: Noise, monkeypatch) -> None:
    images = pixels(right)
    sound = look_at_outputs(model, images)
    assert not sound.probabilities
    assert sound.repeat_change < 1e-5
    assert sound.images == LOOKED_AT
    assert look_at_outputs(lambda x: model(x).softmax(1), images).probabilities  # type: ignore[arg-type]
    restless = look_at_outputs(lambda x: model(x + 0.05 * torch.randn_like(x)), images)  # type: ignore[arg-type]
    assert restless.repeat_change > 0.01


@pytest.mark.parametrize(("bound", "eps"), [("linf", 0.05), ("l2", 0.05)])
def test_a_bounded_patch_that_breaks_its_bound_is_caught(
    model: Model, right: Noise, attack_named, bound: str, eps: float
) -> None:
    def one_pixel(model, images, labels, *, bound, **_):
        changed = images.clone()
        changed[:, :, 0, 0] = (changed[:, :, 0, 0] + 0.2) % 1
        return changed

    condition = Condition(
        "mild", attack=attack_named(one_pixel), threat=ThreatModel("patch", eps, patches=1), params={"bound": bound}
    )
    with pytest.raises(AttackError, match=f"beyond {bound}"):
        evaluate(model, right, condition)


@pytest.mark.parametrize(
    ("threat", "inside", "words"),
    [
        (ThreatModel("l1", 1.0), lambda x: put(x, 0.3, (0, 0), (5, 9)), None),
        (ThreatModel("l1", 1.0), lambda x: put(x, 0.3, (0, 0), (5, 9), (7, 7), (8, 8)), "a change beyond l1 1"),
        (ThreatModel("square", share=3 / SIZE), lambda x: put(x, 0.3, (4, 6), (6, 4), (5, 5)), None),
        (ThreatModel("square", share=3 / SIZE), lambda x: put(x, 0.3, (4, 6), (7, 6)), "outside of one square of 3"),
        (ThreatModel("square", share=3 / SIZE), lambda x: put(x, 0.3, (4, 3), (4, 6)), "outside of one square of 3"),
        (ThreatModel("flow", share=1 / SIZE), lambda x: x.roll(1, 2), None),
        (ThreatModel("flow", share=1 / SIZE), lambda x: 0.5 * x.roll(1, 3) + 0.5 * x, None),
        (ThreatModel("flow", share=1 / SIZE), lambda x: x.roll(5, 2), "values that no pixel within 1 has"),
    ],
)  # fmt: skip
def test_threats_that_are_no_common_norm_are_checked(
    model: Model, right: Noise, attack_named, threat: ThreatModel, inside: Callable, words: str | None
) -> None:
    def changing(model, images, labels, **_):
        rolled = inside(images)
        if threat.norm == "flow":  # what a roll brings in from the other side is no flow
            rolled[:, :, :5], rolled[:, :, :, :5] = images[:, :, :5], images[:, :, :, :5]
        return rolled

    condition = Condition("x", attack=attack_named(changing), threat=threat)
    if words is None:
        assert len(evaluate(model, right, condition).outcomes)
    else:
        with pytest.raises(AttackError, match=words):
            evaluate(model, right, condition)


def put(images: torch.Tensor, by: float, *pixels: tuple[int, int]) -> torch.Tensor:
    """One value of each of these pixels moved by so much, towards the inside of [0, 1]."""
    changed = images.clone()
    for row, column in pixels:
        value = changed[:, 0, row, column]
        changed[:, 0, row, column] = torch.where(value < 0.5, value + by, value - by)
    return changed


@contextmanager
def room_for(model: Model, most: int, error: Callable[[], object]) -> Iterator[list[int]]:
    """The model breaks where it gets more images than `most` at a time; the numbers that it got."""
    seen: list[int] = []

    def look(module: object, arguments: tuple[torch.Tensor]) -> None:
        seen.append(len(arguments[0]))
        if len(arguments[0]) > most:
            error()

    hook = model.register_forward_pre_hook(look)
    try:
        yield seen
    finally:
        hook.remove()


def on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Lines(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def line(self, text: str = "", style: str = "") -> None:
        self.said.append(text)


@pytest.mark.parametrize("error", [on_a_gpu, lambda: torch.empty(1 << 50), lambda: np.zeros(1 << 50)])
@pytest.mark.parametrize("name", ["pgd", None])
def test_too_little_memory_halves_the_batch_and_moves_nothing(
    model: Model, right: Noise, name: str | None, error: Callable[[], object]
) -> None:
    """On a CPU as on a GPU; later conditions begin with what fitted."""
    condition = Condition("c", attack=name, threat=ThreatModel("linf", 4 / 255)) if name else Condition("c")
    whole, lines, memory = evaluate(model, right, condition, batch_size=16), Lines(), Memory()
    with room_for(model, 9, error) as seen:
        short = evaluate(model, right, condition, batch_size=16, progress=lines, memory=memory, label="pair")
        assert max(seen) == 16
        seen.clear()
        evaluate(model, right, Condition("again", preprocess="none"), batch_size=16, memory=memory, progress=lines)
        assert max(seen, default=0) <= 8
    assert lines.said == ["pair: 16 images at a time do not fit into memory; again with 8"]
    for mine, theirs in ((short.outcomes, whole.outcomes),):
        assert np.array_equal(mine.ids, theirs.ids)
        assert np.array_equal(mine.predictions, theirs.predictions)
        assert np.allclose(mine.label_probability, theirs.label_probability, atol=1e-3)
    if name:
        assert short.attack_card is not None
        assert whole.attack_card is not None
        assert short.attack_card.images == whole.attack_card.images


def test_not_even_one_image_fits(model: Model, right: Noise) -> None:
    with (
        room_for(model, 0, lambda: torch.empty(1 << 50)),
        pytest.raises(ModelError, match=r"one image at a time does not fit into memory \(.*can't allocate memory"),
    ):
        evaluate(model, right, Condition("c"), batch_size=4)
