"""model x condition -> per-image outcomes. The harness does not believe an attack: it checks, then judges itself.

Shapes: B images of a batch, K classes, C classes of a split's subset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nsbench import registry
from nsbench.attacks.attention import patch_size
from nsbench.data.loading import batches
from nsbench.errors import AttackError, DataError, ModelError
from nsbench.models.model import frozen
from nsbench.progress import SILENT, Progress
from nsbench.types import Condition, Outcomes, ThreatModel

if TYPE_CHECKING:
    from nsbench.data import Split
    from nsbench.models import Model

TOLERANCE = 1e-5  # relative room for float32 rounding in a norm; 1/255 of a grey level is 4e-3


def evaluate(model: Model, split: Split, condition: Condition, *, seed: int = 0, batch_size: int = 64,
             workers: int = 0, progress: Progress = SILENT, label: str = "",
             unreadable: dict[str, str] | None = None) -> Outcomes:
    """Outcomes of every image of `split` under `condition`, in the split's order.

    Images that are misclassified before the attack count as broken and are not attacked. Raises ModelError for
    logits that are not finite and AttackError for adversarial images outside their threat model. An image that
    cannot be decoded raises CorruptImage; with a dictionary `unreadable` it is noted there (id -> why) and left out.
    """
    transform = model.preprocessing.transform(condition.preprocess)
    parts: list[dict[str, np.ndarray]] = []
    kept: list[np.ndarray] = []
    loader = batches(split, transform, batch_size=batch_size, workers=workers, corrupt=unreadable)
    with frozen(model), progress.task(label or condition.name, len(split)) as advance:
        for batch in loader:
            images = batch.images.to(model.device, non_blocking=True).float() / 255
            labels = batch.labels.to(model.device)
            part = _judge(model, images, batch.ids, split.classes)
            if condition.attack:
                part |= _attacked(model, images, labels, batch.ids, condition, seed, split.classes, part)
            parts.append(part)
            kept.append(batch.indices)
            advance(len(images))
    if not parts:
        raise DataError(f"split '{split.name}': none of its {len(split)} images can be read")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.concatenate(kept)
    return Outcomes(split.ids[order], split.labels[order], columns.pop("predictions"), columns)


def _judge(model: Model, images_BCHW: torch.Tensor, ids: list[str], classes: tuple[int, ...] | None,
           ) -> dict[str, np.ndarray]:
    """Predictions inside the split's classes, and over all classes where the two may differ."""
    with torch.inference_mode():
        logits_BK = model(images_BCHW)
    finite = torch.isfinite(logits_BK).all(dim=1)
    if not finite.all():
        first = ids[int((~finite).nonzero()[0])]
        raise ModelError(f"model '{model.name}' gives NaN or infinite logits for image '{first}'; "
                         "the checkpoint is damaged or training diverged")
    everything = logits_BK.argmax(dim=1).cpu().numpy()
    if classes is None:
        return {"predictions": everything}
    subset_C = torch.tensor(classes, device=logits_BK.device)
    inside = subset_C[logits_BK[:, subset_C].argmax(dim=1)].cpu().numpy()
    return {"predictions": inside, "predictions_all": everything}


def _attacked(model: Model, images: torch.Tensor, labels: torch.Tensor, ids: list[str], condition: Condition,
              seed: int, classes: tuple[int, ...] | None, clean: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Attack the images that are still right, check what came back, judge it, and judge it again in 8 bits."""
    if condition.attack is None or condition.threat is None:
        raise AttackError(f"condition '{condition.name}': an attack needs a threat model")
    attack = registry.attacks[condition.attack]
    right = torch.from_numpy(clean["predictions"]).to(labels.device) == labels
    adversarial = images.clone()
    if right.any():
        chosen = [image_id for image_id, keep in zip(ids, right.tolist(), strict=True) if keep]
        returned = attack(model, images[right], labels[right], ids=chosen, seed=seed, threat=condition.threat,
                          **condition.params)
        check_adversarial(images[right], returned, condition.threat, chosen, condition.attack, model)
        adversarial[right] = returned.clamp(0, 1)
    difference = (adversarial - images).flatten(1)
    rounded = (adversarial * 255).round() / 255
    return _judge(model, adversarial, ids, classes) | {
        "predictions_clean": clean["predictions"],
        "predictions_uint8": _judge(model, rounded, ids, classes)["predictions"],
        "linf": difference.abs().amax(dim=1).cpu().numpy(),
        "l2": difference.norm(dim=1).cpu().numpy(),
    }


def check_adversarial(images_BCHW: torch.Tensor, adversarial_BCHW: torch.Tensor, threat: ThreatModel,
                      ids: list[str], attack: str, model: Model) -> None:
    """Raise AttackError, naming the first image, unless everything that came back is what the threat model allows."""
    if adversarial_BCHW.shape != images_BCHW.shape:
        raise AttackError(f"attack '{attack}' returned shape {tuple(adversarial_BCHW.shape)} "
                          f"for images of shape {tuple(images_BCHW.shape)}")
    difference = (adversarial_BCHW - images_BCHW).flatten(1)
    pixels = adversarial_BCHW.flatten(1)
    problems = {
        "values that are not finite": ~torch.isfinite(pixels).all(dim=1),
        "pixels outside [0, 1]": ((pixels < -TOLERANCE) | (pixels > 1 + TOLERANCE)).any(dim=1),
    }
    if threat.norm == "patch":
        changed = _patches_changed(adversarial_BCHW - images_BCHW, model)
        problems[f"changes in more than {threat.patches} patches"] = changed > threat.patches
    elif threat.eps is not None:
        norms = difference.abs().amax(dim=1) if threat.norm == "linf" else difference.norm(dim=1)
        problems[f"a change beyond {threat}"] = norms > threat.eps * (1 + TOLERANCE) + 1e-6
    for what, bad in problems.items():
        if bad.any():
            raise AttackError(f"attack '{attack}' returned {what} for image '{ids[int(bad.nonzero()[0])]}'; "
                              "its result is not counted")


def _patches_changed(difference_BCHW: torch.Tensor, model: Model) -> torch.Tensor:
    """Number of patches of the model's own grid that hold any changed pixel, per image."""
    height, width = patch_size(model.vit)
    changed = (difference_BCHW != 0).any(dim=1, keepdim=True).float()
    return torch.nn.functional.max_pool2d(changed, (height, width), ceil_mode=True).flatten(1).sum(dim=1)
