"""Watermarks that do not change what a vision transformer predicts (arXiv 2403.10476, appendix E, equation 12).

A mark (a picture or a text) is laid over an image, and the change that this would make is replaced by the nearest one
inside the nullspace of the patch embedding. What the nullspace holds are the fine structures of a patch, so a mark's
edges survive and its flat inside does not; `hatched` fills the mark with a checkerboard of single pixels, which does.
Shapes: B images (B, 3, H, W) in [0, 1], N patches, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nsbench.errors import UsageError
from nsbench.models import Model, frozen
from nsbench.models.preprocessing import in_8_bits
from nsbench.nullspace.exact import PatchNullspace
from nsbench.nullspace.least_squares import edit
from nsbench.nullspace.similarity import psnr, ssim

POSITIONS = {
    "centre": (0.5, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
    "top-left": (0.0, 0.0),
    "top-right": (1.0, 0.0),
    "bottom-left": (0.0, 1.0),
    "bottom-right": (1.0, 1.0),
}


@dataclass(frozen=True)
class Mark:
    """What is laid over an image of the model's input size."""

    colour_3HW: Tensor  # in [0, 1]
    opacity_1HW: Tensor  # in [0, 1]; 0 where the image stays as it is
    hatched: bool = False  # instead of the colour, a checkerboard of single pixels, half the opacity up and down

    def over(self, images_BCHW: Tensor) -> Tensor:
        """The images with the mark on them, without regard to the nullspace: what is wanted."""
        opacity_1HW = self.opacity_1HW.to(images_BCHW)
        if self.hatched:
            height, width = opacity_1HW.shape[1:]
            board_HW = (torch.arange(height)[:, None] + torch.arange(width)) % 2 - 0.5
            return (images_BCHW + opacity_1HW * board_HW.to(images_BCHW)).clamp(0, 1)
        return torch.lerp(images_BCHW, self.colour_3HW.to(images_BCHW), opacity_1HW)


@dataclass(frozen=True)
class Marked:
    """Watermarked images and one record of figures for each."""

    images_BCHW: Tensor  # in [0, 1] where bounded
    wanted_BCHW: Tensor  # the mark laid on without regard to the nullspace
    figures: list[dict[str, Any]]


def watermark(
    model: Model,
    nullspace: PatchNullspace,
    images_BCHW: Tensor,
    mark: Mark,
    *,
    bounded: bool = True,
) -> Marked:
    """Put a mark on images inside the nullspace; figures of the predictions' change and of the mark's visibility.

    Raises UsageError where images and mark differ in size.
    """
    if images_BCHW.shape[2:] != mark.colour_3HW.shape[1:]:
        raise UsageError(
            f"a mark of {mark.colour_3HW.shape[2]}x{mark.colour_3HW.shape[1]} pixels does not fit images "
            f"of {images_BCHW.shape[3]}x{images_BCHW.shape[2]}"
        )
    wanted_BCHW = mark.over(images_BCHW)
    marked_BCHW = edit(nullspace, images_BCHW, wanted_BCHW, bounded=bounded)
    predictions = compare_predictions(model, images_BCHW, marked_BCHW)
    visibility = mark_visibility(images_BCHW, marked_BCHW, wanted_BCHW)
    return Marked(marked_BCHW, wanted_BCHW, [a | b for a, b in zip(predictions, visibility, strict=True)])


def compare_predictions(model: Model, images_BCHW: Tensor, edited_BCHW: Tensor) -> list[dict[str, Any]]:
    """The model's output for each image before and after: classes, confidence of the first, logits, 8-bit rounding.

    `confidence_difference` is after - before of the class assigned before, in [-1, 1].
    """
    with frozen(model), torch.no_grad():
        before_BK, after_BK = model(images_BCHW), model(edited_BCHW)
        rounded_BK = model(in_8_bits(edited_BCHW))
    labels_B = before_BK.argmax(dim=1)
    confidences = [
        logits_BK.softmax(dim=1).gather(1, labels_B[:, None]).squeeze(1).tolist()
        for logits_BK in (before_BK, after_BK, rounded_BK)
    ]
    columns = {
        "prediction": labels_B,
        "prediction_edited": after_BK.argmax(dim=1),
        "prediction_8bit": rounded_BK.argmax(dim=1),
        "logit_change": (after_BK - before_BK).abs().amax(dim=1),
        "logit_change_8bit": (rounded_BK - before_BK).abs().amax(dim=1),
    }
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*(c.tolist() for c in columns.values()), strict=True)
    ]
    for row, before, after, rounded in zip(rows, *confidences, strict=True):
        row |= {
            "label_match": row["prediction"] == row["prediction_edited"],
            "label_match_8bit": row["prediction"] == row["prediction_8bit"],
            "confidence": before,
            "confidence_difference": after - before,
            "confidence_difference_8bit": rounded - before,
        }
    return rows


def mark_visibility(images_BCHW: Tensor, marked_BCHW: Tensor, wanted_BCHW: Tensor) -> list[dict[str, float]]:
    """How much of a mark is to be seen on each image.

    `retained`: share of the wanted change's energy that the marked image has along it, 1 for a mark as wanted;
    `psnr` (dB) and `ssim` against the image without the mark: the lower, the more visible; `ssim_wanted` against the
    image with the mark as wanted; `contrast`: root mean square change in the marked area, [0, 1] pixel units.
    """
    rows = []
    for image, marked, wanted in zip(images_BCHW.double(), marked_BCHW.double(), wanted_BCHW.double(), strict=True):
        change, asked = marked - image, wanted - image
        area = (asked != 0).any(dim=0)
        energy = float(asked.square().sum())
        rows.append(
            {
                "retained": float((change * asked).sum()) / energy if energy else 0.0,
                "contrast": float(change[:, area].square().mean().sqrt()) if area.any() else 0.0,
                "psnr": psnr(image, marked),
                "ssim": ssim(image, marked),
                "ssim_wanted": ssim(wanted, marked),
            }
        )
    return rows


def text_mark(
    text: str, side: int, *, width: float = 0.9, opacity: float = 1.0, position: str = "centre", hatched: bool = False
) -> Mark:
    """A text in white with a dark rim, `width` x the image's side wide, on images of `side` x `side` pixels."""
    if not text.strip():
        raise UsageError("the text of a mark is empty; give some words or a picture")
    font = ImageFont.load_default(96)
    style: dict[str, Any] = {"font": font, "stroke_width": 6, "align": "center", "spacing": 12}
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, **style)
    picture = Image.new("RGBA", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(picture).multiline_text((-left, -top), text, fill="white", stroke_fill="black", **style)
    return picture_mark(picture, side, width=width, opacity=opacity, position=position, hatched=hatched)


def picture_mark(
    picture: Image.Image,
    side: int,
    *,
    width: float = 0.5,
    opacity: float = 1.0,
    position: str = "centre",
    hatched: bool = False,
) -> Mark:
    """A picture (its alpha channel is respected) inside a square of `width` x the side, at a place of POSITIONS.

    Raises UsageError for a width or opacity outside (0, 1] and an unknown position.
    """
    if not 0 < width <= 1 or not 0 < opacity <= 1:
        raise UsageError(f"mark of width {width:g} and opacity {opacity:g}: both are shares, above 0 and at most 1")
    if position not in POSITIONS:
        raise UsageError(f"position '{position}' is none of {', '.join(POSITIONS)}")
    factor = width * side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    scaled = np.asarray(picture.convert("RGBA").resize(size, Image.Resampling.LANCZOS), dtype=np.float32) / 255
    pixels_4HW = torch.from_numpy(scaled.copy()).permute(2, 0, 1)
    x, y = (round(place * (side - length)) for place, length in zip(POSITIONS[position], size, strict=True))
    canvas_4HW = torch.zeros(4, side, side)
    canvas_4HW[:, y : y + size[1], x : x + size[0]] = pixels_4HW
    return Mark(canvas_4HW[:3], canvas_4HW[3:] * opacity, hatched)
