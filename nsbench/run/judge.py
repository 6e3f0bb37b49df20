"""What a model says of images: predictions and probabilities, and whether its outputs look like logits.

Shapes: B images of a batch, K classes of the model, C classes of a split's subset (K where it has none).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nsbench.errors import ModelError
from nsbench.results import OutputCheck
from nsbench.types import PROBABILITY_STEP

if TYPE_CHECKING:
    from nsbench.models import Model

LOOKED_AT = 8  # images whose logits are looked at for signs of ill health, once per model
BEST = 5  # classes that are kept of each image
Columns = dict[str, np.ndarray]


def judge(
    model: Model, images_BCHW: torch.Tensor, labels_B: np.ndarray, ids: list[str], classes: tuple[int, ...] | None
) -> Columns:
    """Arrays of length B: "predictions", "label_probability", "confidence" and "top5" (B, 5 or C) over the split's
    classes; where it has a subset, "predictions_all" over all K.

    Raises ModelError, naming the first image, for logits that are not finite.
    """
    logits_BK = _logits(model, images_BCHW, ids)
    names_C, logits_BC = _inside(logits_BK, classes)
    labels_B1 = torch.from_numpy(labels_B).to(logits_BK.device)[:, None]
    places_B = (names_C == labels_B1).int().argmax(dim=1)  # a label is one of the classes, in any order
    columns = {} if classes is None else {"predictions_all": logits_BK.argmax(dim=1).cpu().numpy()}
    probability_BC = logits_BC.float().softmax(dim=1)
    best_BC = logits_BC.sort(dim=1, descending=True, stable=True).indices  # of equal ones the first, as argmax
    return columns | {
        "predictions": names_C[best_BC[:, 0]].cpu().numpy(),
        "label_probability": _steps(probability_BC.gather(1, places_B[:, None])[:, 0]),
        "confidence": _steps(probability_BC.amax(dim=1)),
        "top5": names_C[best_BC[:, :BEST]].cpu().numpy(),
    }


def predictions(model: Model, images_BCHW: torch.Tensor, ids: list[str], classes: tuple[int, ...] | None) -> np.ndarray:
    """(B,) over the split's classes. Raises ModelError as `judge` does."""
    names_C, logits_BC = _inside(_logits(model, images_BCHW, ids), classes)
    return names_C[logits_BC.argmax(dim=1)].cpu().numpy()


def _inside(logits_BK: torch.Tensor, classes: tuple[int, ...] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The split's classes (C,), and their logits (B, C)."""
    if classes is None:
        return torch.arange(logits_BK.shape[1], device=logits_BK.device), logits_BK
    names_C = torch.tensor(classes, device=logits_BK.device)
    return names_C, logits_BK[:, names_C]


def _logits(model: Model, images_BCHW: torch.Tensor, ids: list[str]) -> torch.Tensor:
    with torch.inference_mode():
        logits_BK: torch.Tensor = model(images_BCHW)
    finite = torch.isfinite(logits_BK).all(dim=1)
    if not finite.all():
        first = ids[int((~finite).nonzero()[0])]
        raise ModelError(
            f"model '{model.name}' gives NaN or infinite logits for image '{first}'; "
            "the checkpoint is damaged or training diverged"
        )
    return logits_BK


def _steps(probability_B: torch.Tensor) -> np.ndarray:
    return ((probability_B / PROBABILITY_STEP).round() * PROBABILITY_STEP).cpu().numpy()


def look_at_outputs(model: Model, images_BCHW: torch.Tensor) -> OutputCheck:
    """Whether the outputs for the first images of a batch are probabilities instead of logits, and whether they repeat
    (rounding alone is far below 1e-3)."""
    with torch.inference_mode():
        first_BK, second_BK = model(images_BCHW[:LOOKED_AT]).double(), model(images_BCHW[:LOOKED_AT]).double()
    inside = bool(((first_BK >= 0) & (first_BK <= 1)).all())
    one = bool(((first_BK.sum(dim=1) - 1).abs() < 1e-4).all())
    spread = float(first_BK.std(correction=0))
    change = float((first_BK - second_BK).abs().max()) / spread if spread else 0.0
    return OutputCheck(len(first_BK), inside and one, change)
