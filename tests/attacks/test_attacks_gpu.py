"""Every attack on a GPU: the images are there, and break what those of the CPU break, in batches of any size."""

from __future__ import annotations

import pytest
import torch
from training_reference import tiny_model

import nsbench.attacks  # noqa: F401  (fills the registry)
from nsbench import registry
from nsbench.types import ThreatModel

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]

IMAGES = 6
NORMS = {"linf": ThreatModel("linf", 2 / 255), "l2": ThreatModel("l2", 0.2), "l1": ThreatModel("l1", 2.0)}
SETTINGS: list[tuple[str, ThreatModel, dict[str, object]]] = [
    ("fgsm", NORMS["linf"], {}),
    ("mifgsm", NORMS["linf"], {}),
    ("cw", ThreatModel("l2"), {"steps": 8}),
    ("cw_search", ThreatModel("l2"), {"steps": 5, "search_steps": 3}),
    ("patchfool", ThreatModel("patch", patches=1), {"steps": 4}),
    ("patchfool", ThreatModel("patch", 0.1, patches=1), {"steps": 4, "bound": "l2", "select": "saliency", "eot": 2}),
    ("stadv", ThreatModel("flow", share=0.05), {"steps": 4}),
    ("patch", ThreatModel("square", share=0.3), {"steps": 4, "restarts": 2}),
    *(("pgd", threat, {"steps": 4, "restarts": 2, "eot": 2}) for threat in NORMS.values()),
    *(("apgd", threat, {"steps": 6}) for threat in NORMS.values()),
    *(("apgd", threat, {"steps": 5, "loss": "dlr-targeted"}) for threat in NORMS.values()),
    *(("fab", threat, {"steps": 5}) for threat in NORMS.values()),
    *(("square", threat, {"queries": 12}) for threat in NORMS.values()),
]


@pytest.mark.parametrize(("name", "threat", "settings"), SETTINGS, ids=lambda value: str(value).replace("/", "_"))
def test_images_break_as_on_the_cpu(name: str, threat: ThreatModel, settings: dict[str, object]) -> None:
    model, images = tiny_model(patch_size=4).eval(), torch.rand(IMAGES, 3, 16, 16, generator=torch.manual_seed(0))
    labels, attack = model(images).argmax(dim=1), registry.attacks[name]
    run = {"ids": [f"clean/{i}" for i in range(IMAGES)], "seed": 1, "threat": threat}
    expected = attack(model, images, labels, **run, **settings)
    there = tiny_model(patch_size=4).to("cuda").eval()
    for batch in [{"batch_size": 4}] if "batch_size" in attack.parameters else [{}]:
        found = attack(there, images.cuda(), labels.cuda(), **run, **settings, **batch)
        assert found.is_cuda
        differ = (model(found.cpu()).argmax(dim=1) != labels) != (model(expected).argmax(dim=1) != labels)
        assert differ.sum() <= 1  # rounding may move one
