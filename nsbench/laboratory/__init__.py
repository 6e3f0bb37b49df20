"""What the commands of the nullspace laboratory share: a model, images to try it on, and where the outcome goes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbench.laboratory.page import Sheet, write_sheet

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from nsbench.data import DataSource
    from nsbench.models import Model
    from nsbench.models.preparation import Preparation

BATCH = 64  # images that are decoded at a time


@dataclass(frozen=True)
class Images:
    """n images of a split, prepared as the checkpoint wants them."""

    pixels_BCHW: torch.Tensor  # (n, 3, H, W) in [0, 1], on the bench's device
    labels_B: torch.Tensor  # (n,) int64, class indices; on the CPU
    ids: list[str]


@dataclass(frozen=True)
class Bench:
    """An opened laboratory."""

    model: Model
    source: DataSource
    seed: int
    device: str
    out: Path
    untrained: bool = False
    start: float = field(default_factory=time.perf_counter)
    held: dict[tuple[str, int], Images] = field(default_factory=dict, repr=False)  # decoded once

    def images(self, split: str, n: int) -> Images:
        """The class-balanced first n images of a split (fewer where it has fewer), by the checkpoint's own resize and
        crop. Raises MissingSplit, or CorruptImage for a file that cannot be decoded."""
        if (split, n) in self.held:
            return self.held[split, n]
        import torch

        from nsbench.data.loading import batches
        from nsbench.progress import ConsoleProgress

        chosen = self.source.split(split, ConsoleProgress()).limited(n)
        parts = list(batches(chosen, self.model.preprocessing.transform("checkpoint"), batch_size=BATCH))
        pixels_BCHW = torch.cat([part.images for part in parts]).to(self.device).float() / 255
        self.held[split, n] = Images(
            pixels_BCHW, torch.cat([part.labels for part in parts]), [one for part in parts for one in part.ids]
        )
        return self.held[split, n]

    def facts(self, **more: Any) -> dict[str, Any]:
        """What every sheet says of its making, and `more`."""
        from nsbench.models import weights_digest
        from nsbench.provenance import device_name

        weights = "none (untrained)" if self.untrained else weights_digest(self.model)
        return {
            "model": self.model.name,
            "weights": weights,
            "normalisation": self.model.normalisation,
            "data": self.source.name,
            **more,
            "seed": self.seed,
            "device": device_name(self.device),
            "seconds": round(time.perf_counter() - self.start, 1),
        }

    def write(
        self,
        name: str,
        title: str,
        lede: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        figures: Mapping[str, Figure] | None = None,
        facts: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
        data: Mapping[str, Any] | None = None,
        qualifier: str = "",
        order: int = 100,
    ) -> Sheet:
        """Print, store and draw the outcome of the command `name` on this bench's model; see `Sheet`."""
        subject = self.model.name + (f".{qualifier}" if qualifier else "")
        sheet = Sheet(name, subject, title, lede, columns, rows, self.facts(**(facts or {})), notes, data or {}, order)
        write_sheet(sheet, self.out, figures)
        return sheet


def open_bench(
    *,
    data: str = "shapes10",
    model: str | None = None,
    checkpoint: Path | None = None,
    normalisation: str = "own",
    seed: int = 0,
    device: str = "auto",
    out: Path = Path("reports/nullspace"),
    untrained: bool = False,
    asked: Preparation | None = None,
    which: str = "ema",
    follow_links: bool = False,
    class_map: str | None = None,
    class_map_by: str = "sum",
) -> Bench:
    """Load the data source and the model, by default the source's own; they must agree in the number of classes.

    `untrained` takes the architecture as timm initialises it, with the source's number of classes.
    """
    from nsbench.results import ensure_writable
    from nsbench.run.opening import open_all

    ensure_writable(out)
    opened = open_all(
        data,
        model,
        checkpoint=checkpoint,
        normalisation=normalisation,
        device=device,
        untrained=seed if untrained else None,
        asked=asked,
        which=which,
        follow_links=follow_links,
        class_map=class_map,
        class_map_by=class_map_by,
    )
    return Bench(opened.model, opened.source, seed, opened.device, out, untrained=untrained)
