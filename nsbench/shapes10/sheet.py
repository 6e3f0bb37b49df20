"""A contact sheet of shapes10: one row per split, enlarged without smoothing, on a strict grid.

nsbench data show shapes10 --out sheet.png
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nsbench.errors import UsageError
from nsbench.files import writing
from nsbench.progress import SILENT, Progress
from nsbench.shapes10 import Shapes10, make, splits
from nsbench.shapes10.render import SIZE

COLUMNS = 15  # as many as there are corruptions
TILE, GAP, MARGIN, TEXT = 2 * SIZE, 8, 48, 250  # pixels; TEXT: width of the column of titles
GROUND, INK, NOTE, RULE = (252, 252, 250), (26, 28, 32), (104, 108, 116), (222, 222, 218)

ROWS = (  # split, what it is
    ("train", "what models learn from"),
    ("clean", "drawn in the same way, never seen"),
    ("damagenet", "the row above, attacked through\nanother network, up to 25.5/255"),
    ("v2", "drawn anew, conditions mildly shifted"),
    ("a", "natural, but a fixed classifier errs:\nhidden, faint, cluttered; 6 classes"),
    ("r", "renditions in nine hands; 6 classes"),
    ("sketch", "black lines on white"),
    ("stylized", "texture contradicts shape"),
)
SEVERITIES = (1, 3, 5)


def write_sheet(out: Path, progress: Progress = SILENT) -> None:
    """Write the sheet as an image file. Renders what is not in the cache; only 15 images of train and of c."""
    source = Shapes10()
    rows = [(name, note, _samples(source, name, progress)) for name, note in ROWS]
    pictures = {name: images for name, _, images in rows}
    corrupted = [_corrupted(source, pictures["clean"], severity) for severity in SEVERITIES]
    sheet = _draw(rows, corrupted)
    out = Path(out)
    try:
        with writing(out, UsageError, "give another --out"):
            sheet.save(out)
    except ValueError as problem:
        raise UsageError(f"--out {out}: no image format is called '{out.suffix}'; use .png") from problem


def _samples(source: Shapes10, name: str, progress: Progress) -> np.ndarray:
    """The first images of a split; of r those that show every hand."""
    if name == "train":
        return splits.render("train", np.arange(COLUMNS))
    split, column = source.split(name, progress), np.arange(COLUMNS)
    if name == "a":  # its order is by candidate: show the classes in turn
        column = np.concatenate([np.flatnonzero(split.labels == label)[:3] for label in splits.A_CLASSES])
        column = column.reshape(-1, 3).T.ravel()[:COLUMNS]
    return split.images[column % 6 + 6 * (column % 9) if name == "r" else column]


def _corrupted(source: Shapes10, images: np.ndarray, severity: int) -> list[np.ndarray]:
    from nsbench.corruptions import corrupt

    ids = make.image_ids("clean", np.arange(COLUMNS))
    return [
        corrupt(np.array(image), name, severity, seed=0, image_id=image_id)
        for image, name, image_id in zip(images, make.corruption_names(), ids, strict=True)
    ]


def _draw(rows: list[tuple[str, str, np.ndarray]], corrupted: list[list[np.ndarray]]) -> Image.Image:
    pitch = TILE + GAP
    width = 2 * MARGIN + TEXT + COLUMNS * pitch - GAP
    top, middle = MARGIN + 92, 84  # room for the heading and for the names of the corruptions
    height = top + (len(rows) + len(corrupted)) * pitch - GAP + middle + MARGIN
    sheet = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 10), "shapes10", INK, _font(40))
    line = "Ten shapes on textured grounds, 48 by 48 pixels, drawn by a program. Every row is a split of the benchmark."
    pen.text((MARGIN, MARGIN + 42), line, NOTE, _font(17))
    for row, (name, note, images) in enumerate(rows):
        _row(sheet, pen, top + row * pitch, name, note, list(images))
    top += len(rows) * pitch
    pen.line((MARGIN, top + 10, width - MARGIN, top + 10), RULE)
    for column, name in enumerate(make.corruption_names()):
        left = MARGIN + TEXT + column * pitch
        pen.multiline_text((left, top + middle - 12), name.replace("_", "\n"), NOTE, _font(14), anchor="ld", spacing=2)
    for row, (severity, changed) in enumerate(zip(SEVERITIES, corrupted, strict=True)):
        note = "clean, under fifteen corruptions" if row == 0 else ""
        _row(sheet, pen, top + middle + row * pitch, f"c / … / {severity}", note, changed)
    return sheet


def _row(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, top: int, name: str, note: str, images: list[np.ndarray]
) -> None:
    pen.text((MARGIN, top + 10), name, INK, _font(22))
    pen.multiline_text((MARGIN, top + 42), note, NOTE, _font(14), spacing=3)
    for column, image in enumerate(images):
        left = MARGIN + TEXT + column * (TILE + GAP)
        pen.rectangle((left - 1, top - 1, left + TILE, top + TILE), outline=RULE)
        sheet.paste(Image.fromarray(np.array(image)).resize((TILE, TILE), Image.Resampling.NEAREST), (left, top))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
