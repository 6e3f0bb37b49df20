"""An attack knows what it is judged by, and can change nothing of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_evaluate import CLASSES, Noise, attack_named, model, pixels, right  # noqa: F401  (fixtures)
from torch import nn

import nsbench.attacks  # noqa: F401  (fills the registry of attacks)
from nsbench import registry
from nsbench.data import Split
from nsbench.data.source import digest_of
from nsbench.errors import AttackError, DataError, NsbenchError, UsageError
from nsbench.models import Model, weights_digest
from nsbench.models.subset import labels_within, over_classes
from nsbench.progress import SILENT
from nsbench.results.threat_words import threat_words
from nsbench.run import runner
from nsbench.run.before import not_attackable
from nsbench.run.evaluate import Evaluation, evaluate
from nsbench.run.job import Job, open_job
from nsbench.run.opening import open_all
from nsbench.run.options import RunOptions
from nsbench.run.pair import identity_of, splits_of
from nsbench.run.sound import check_condition, check_suite
from nsbench.statistics import accuracy
from nsbench.types import Condition, Scalar, Suite, ThreatModel

LINF = ThreatModel("linf", 4 / 255)
ALL = [
    ("fgsm", LINF, {}),
    ("mifgsm", LINF, {}),
    ("pgd", LINF, {"steps": 5, "restarts": 2}),
    ("pgd", ThreatModel("l2", 1.0), {"steps": 5}),
    ("apgd", LINF, {"steps": 5}),
    ("apgd", ThreatModel("l1", 12.0), {"steps": 8}),
    ("apgd", LINF, {"steps": 5, "loss": "dlr-targeted"}),
    ("fab", LINF, {"steps": 5}),
    ("square", LINF, {"queries": 20}),
    ("cw", ThreatModel("l2"), {"steps": 10}),
    ("cw_search", ThreatModel("l2"), {"steps": 5, "search_steps": 2}),
    ("stadv", ThreatModel("flow", share=0.05), {"steps": 5}),
    ("patch", ThreatModel("square", share=0.2), {"steps": 3}),
]
Setting = tuple[str, ThreatModel, dict[str, Scalar]]
PATCHFOOL: Setting = ("patchfool", ThreatModel("patch", patches=1), {"steps": 20})


@pytest.fixture(scope="module")
def job() -> Job:
    registry.load_content()
    return open_job(RunOptions(("pretrained",), ("clean",)), SILENT)


@pytest.fixture(scope="module")
def renditions(job: Job) -> Split:
    return job.source.split("r").limited(60)


def attacked(network: Model, split: Split, name: str, threat: ThreatModel = LINF, **params: Scalar) -> Evaluation:
    return evaluate(network, split, Condition("one", attack=name, threat=threat, params=params))


def share_right(one: Evaluation) -> float:
    return 100 * float(one.outcomes.correct.mean())


# --- a class subset -------------------------------------------------------------------------------------------------


def test_a_model_over_some_classes_is_that_model(model: Model) -> None:  # noqa: F811
    split = Noise(4)
    view = over_classes(model, (4, 1, 3))
    with torch.no_grad():
        torch.testing.assert_close(view(pixels(split)), model(pixels(split))[:, [4, 1, 3]], rtol=0, atol=0)
    assert (view.num_classes, model.num_classes) == (3, CLASSES)
    assert view.vit is model.vit
    assert over_classes(model, None) is model
    assert labels_within(torch.tensor([3, 4, 1]), (4, 1, 3)).tolist() == [2, 0, 1]


@pytest.mark.parametrize(("name", "threat", "params"), [*ALL, PATCHFOOL])
def test_an_attack_on_a_subset_equals_the_attack_on_a_model_of_these_classes(
    job: Job, renditions: Split, name: str, threat: ThreatModel, params: dict[str, Scalar]
) -> None:
    """The same pictures and network, where the head has these classes and no others."""
    assert renditions.classes is not None
    own = over_classes(job.parent, renditions.classes)
    labels = labels_within(torch.from_numpy(renditions.labels), renditions.classes)
    few = renditions.limited(24)
    alone = renditions.limited(24)
    alone.classes, alone.labels = None, labels[torch.from_numpy(np.isin(renditions.ids, few.ids))].numpy()
    found, expected = (attacked(*pair, name, threat, **params).outcomes for pair in ((job.parent, few), (own, alone)))
    np.testing.assert_array_equal(found.correct, expected.correct)
    for norm in ("linf", "l2"):
        np.testing.assert_array_equal(found.extra[norm], expected.extra[norm])


def test_a_stronger_attack_on_a_subset_leaves_less(job: Job, renditions: Split) -> None:
    stops, goes_on = (attacked(job.parent, renditions, "pgd", steps=50, early_stop=early) for early in (True, False))
    assert share_right(stops) <= share_right(goes_on) < share_right(attacked(job.parent, renditions, "fgsm"))
    assert stops.attack_card is not None
    left = stops.attack_card.still_right[-1].images  # what the attack counts is what is judged
    assert left == stops.outcomes.correct.sum()
    for name, threat in (("cw", ThreatModel("l2")), ("stadv", ThreatModel("flow", share=0.02))):
        assert share_right(attacked(job.parent, renditions, name, threat)) <= 5


def test_tiny_imagenet_s_classes(shared_data: Path, tmp_path: Path) -> None:
    """200 of ImageNet's 1000 classes and the real ViT-Tiny."""
    (tmp_path / "tiny.toml").write_text(
        f'root = "{shared_data / "tiny-imagenet"}"\nname = "tiny"\n[classes]\nclean = "present"\n'
    )
    try:
        opened = open_all(
            str(tmp_path / "tiny.toml"),
            "vit_tiny_patch16_224",
            checkpoint=shared_data / "weights" / "vit_tiny_patch16_224.safetensors",
        )
        split = opened.source.split("clean").limited(24)
    except DataError as error:
        pytest.skip(str(error))
    assert split.classes is not None
    pgd = attacked(opened.model, split, "pgd", steps=10)
    assert share_right(pgd) <= share_right(attacked(opened.model, split, "fgsm"))
    assert pgd.attack_card is not None
    assert pgd.attack_card.still_right[-1].images == pgd.outcomes.correct.sum()


def test_only_attacks_on_subsets_are_other_measurements_than_before(job: Job) -> None:
    def is_as_before(condition: Condition) -> bool:
        suite = Suite("one", "one", "adversarial", lambda: [condition], accuracy, "", "")
        (split,) = splits = splits_of(job, suite)
        one = condition
        settings = [
            (
                one.name,
                one.attack,
                sorted(one.params.items()),
                str(one.threat),
                one.preprocess,
                split.digest,
                split.origin,
            )
        ]
        about = (job.source.name, "key", job.parent.preprocessing, suite.name, suite.version, job.seed, settings)
        return identity_of(job, suite, splits, "key") == digest_of(*about)

    assert is_as_before(Condition("a"))
    assert is_as_before(Condition("a", "r"))
    assert is_as_before(Condition("a", attack="fgsm", threat=LINF))
    assert is_as_before(Condition("a", attack="patch", threat=ThreatModel("square", share=50 / 224), limit=9))
    assert not is_as_before(Condition("a", "r", attack="fgsm", threat=LINF))


def test_threat_models_that_differ_have_other_words() -> None:
    kept = [LINF, ThreatModel("linf", 8 / 225), ThreatModel("l2", 0.5), ThreatModel("l1", 12.0), ThreatModel("l2")]
    kept += [ThreatModel("patch", patches=1), ThreatModel("square", share=50 / 224), ThreatModel("flow", share=0.02)]
    assert [threat_words(one) for one in (*kept, None)] == [str(one) for one in (*kept, None)]
    others = [ThreatModel("patch", eps, patches=1) for eps in (4 / 255, 8 / 255)]
    others += [ThreatModel("l2", 0.5000001), ThreatModel("linf", 0.0156863), ThreatModel("square", share=0.223214)]
    others += [ThreatModel("square", share=0.2232143), ThreatModel("linf", 4 / 255, patches=1)]
    words = [threat_words(one) for one in (*kept, *others)]
    assert len(set(words)) == len(words)


# --- several right labels -------------------------------------------------------------------------------------------


def test_an_attack_that_knows_one_of_several_right_labels_is_refused(model: Model, right: Noise) -> None:  # noqa: F811
    right.also_right = {str(right.ids[1]): (2,)}
    with pytest.raises(DataError, match="condition 'one': 'clean' has images with several right labels"):
        attacked(model, right, "fgsm")
    evaluate(model, right, Condition("unattacked"))
    right.also_right = {}
    attacked(model, right, "fgsm")


# --- what an attack may not change ----------------------------------------------------------------------------------


def test_writing_into_the_images_is_no_way_around_the_budget(model: Model, right: Noise, attack_named) -> None:  # noqa: F811
    def in_place(model, images, labels, *, ids, seed, threat):
        labels.zero_()
        ids.clear()
        return images.add_(0.5).clamp_(0, 1)

    with pytest.raises(AttackError, match="a change beyond linf 4/255 for image 'noise/"):
        attacked(model, right, attack_named(in_place))


def test_the_model_is_judged_as_it_was(model: Model, right: Noise, attack_named) -> None:  # noqa: F811
    """Training mode, weights, buffers, parts and hooks that an attack leaves changed."""
    expected = evaluate(model, right, Condition("clean")).outcomes.predictions
    digest, modes = weights_digest(model), []

    def careless(model, images, labels, *, ids, seed, threat):
        modes.append((model.training, any(one.requires_grad for one in model.parameters()), torch.is_grad_enabled()))
        model.train().requires_grad_(True)
        with torch.no_grad():
            model.vit.head.weight.add_(1)
            model.mean_3HW.add_(1)
        model.vit.head.bias = torch.nn.Parameter(torch.full((CLASSES,), 9.0))
        model.vit.norm.register_forward_hook(lambda *_: torch.zeros(1))
        torch.set_grad_enabled(False)
        return images

    condition = Condition("one", attack=attack_named(careless), threat=LINF)
    found = evaluate(model, right, condition, batch_size=7).outcomes
    np.testing.assert_array_equal(found.predictions, expected)
    assert set(modes) == {(False, False, True)}
    assert len(modes) > 1
    assert weights_digest(model) == digest
    assert not model.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("answer", ["nothing", "raises"])
def test_what_an_attack_does_by_mistake_is_one_line(model: Model, right: Noise, attack_named, answer: str) -> None:  # noqa: F811
    def faulty(model, images, labels, *, ids, seed, threat):
        if answer == "raises":
            raise IndexError("of\nits own")

    words = r"raised IndexError: of its own \(test_attacked_as_judged.py:\d+\)" if answer == "raises" else "a NoneType"
    with pytest.raises(AttackError, match=words):
        attacked(model, right, attack_named(faulty))


# --- types of logits ------------------------------------------------------------------------------------------------


class Cast(nn.Module):
    """A model whose logits are of another type."""

    def __init__(self, inner: Model, kind: torch.dtype) -> None:
        super().__init__()
        self.inner, self.vit, self.kind = inner, inner.vit, kind

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return self.inner(images_BCHW).to(self.kind)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("name", "threat", "params"), [*ALL, PATCHFOOL])
def test_logits_of_every_type(
    model: Model,  # noqa: F811
    kind: torch.dtype,
    name: str,
    threat: ThreatModel,
    params: dict[str, Scalar],
) -> None:
    network, split = Cast(model, kind).eval(), Noise(6)
    images = pixels(split)
    with torch.no_grad():
        labels = network(images).argmax(dim=1)
    found = registry.attacks[name](network, images, labels, ids=split.ids.tolist(), seed=0, threat=threat, **params)
    assert found.dtype == torch.float32
    assert ((found >= 0) & (found <= 1)).all()


# --- suites ---------------------------------------------------------------------------------------------------------

ONE = Condition("a", attack="pgd", threat=LINF)
FAULTY = {
    "no conditions": ([], "has no conditions; give one or more"),
    "one name twice": ([ONE, ONE], "two conditions are called 'a'"),
    "an unknown setting": ([Condition("a", attack="pgd", threat=LINF, params={"stepz": 8})], "setting of pgd 'stepz'"),
    "a batch size": (
        [Condition("a", attack="apgd", threat=LINF, params={"batch_size": 8})],
        "batch_size is no setting of a condition, the run gives it, as --batch-size",
    ),
    "a seed": ([Condition("a", attack="pgd", threat=LINF, params={"seed": 8})], "seed is no setting of a condition"),
    "an unknown attack": ([Condition("a", attack="pgdd", threat=LINF)], "unknown attack 'pgdd'"),
    "no threat": ([Condition("a", attack="pgd")], "an attack needs a threat model"),
    "an unknown norm": ([Condition("a", attack="pgd", threat=ThreatModel("l3", 1.0))], "norm 'l3' is none of linf, l2"),
    "no number": ([Condition("a", attack="pgd", threat=ThreatModel("linf", float("nan")))], "eps nan is no budget"),
    "no image": ([Condition("a", limit=0)], "limit 0 leaves no image"),
    "another preparation": ([Condition("a", preprocess="nonee")], "preprocess 'nonee' is neither"),
    "too large": ([Condition("a", attack="patch", threat=ThreatModel("square", share=1.5))], "share 1.5 of"),
    "of no norm": (
        [Condition("a", attack="patchfool", threat=ThreatModel("patch", 0.1, patches=1))],
        "nothing says which norm eps 0.1 is in",
    ),
}


@pytest.mark.parametrize("what", FAULTY)
def test_a_faulty_suite_is_one_line_and_the_others_go_on(
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.load_content()
    conditions, words = FAULTY[what]
    suite = Suite("faulty", "faulty", "adversarial", lambda: list(conditions), accuracy, "", "")
    monkeypatch.setitem(registry.suites._items, "faulty", suite)
    summary = runner.run(RunOptions(("pretrained",), ("faulty", "clean"), limit=4, results=tmp_path), SILENT)
    ((pair, why),) = summary.failed.items()
    assert pair.suite == "faulty"
    assert words in why
    assert [one.suite for one in summary.done] == ["clean"]


def test_an_attack_that_raises_on_trial_refuses_its_suite_alone(
    job: Job,
    attack_named,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def faulty(model, images, labels, *, ids, seed, threat):  # noqa: F811
        raise ZeroDivisionError

    condition = Condition("a", attack=attack_named(faulty), threat=LINF)
    suite = Suite("faulty", "faulty", "adversarial", lambda: [condition], accuracy, "", "")
    monkeypatch.setitem(registry.suites._items, "faulty", suite)
    refused = not_attackable(replace(job, options=replace(job.options, suites=("faulty", "fgsm"))))
    assert list(refused) == ["faulty"]
    assert "attack 'cheat' raised ZeroDivisionError" in str(refused["faulty"])


def test_every_suite_is_sound() -> None:
    registry.load_content()
    for suite in registry.suites.values():
        check_suite(suite)


def test_a_setting_called_bound_is_no_norm_but_of_a_patch(model: Model, right: Noise, attack_named) -> None:  # noqa: F811
    """One pixel changed by 1 is within l2 1 and l1 1, and far outside linf 4/255."""

    def loose(model, images, labels, *, ids, seed, threat, bound: str = "l2"):
        out = images.clone()
        out[:, :, 0, 0] = 1 - out[:, :, 0, 0].round()
        return out

    name = attack_named(loose)
    for params in ({}, {"bound": "l2"}):
        with pytest.raises(AttackError, match="a change beyond linf 4/255"):
            attacked(model, right, name, **params)
    patch = ThreatModel("patch", 4 / 255, patches=1)
    with pytest.raises(AttackError, match=r"a change beyond l2 0\.0156863"):  # the setting's default counts, too
        attacked(model, right, name, patch)
    with pytest.raises(UsageError, match="nothing says which norm"):
        attacked(model, right, name, patch, bound="l7")
    with pytest.raises(NsbenchError, match="nothing says which norm"):
        check_condition(Condition("a", attack="patch", threat=ThreatModel("square", 0.1, share=0.2)))
