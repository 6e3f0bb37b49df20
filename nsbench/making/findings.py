"""What `nsbench data check` found, as a table with words for people and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass
class SetReport:
    """What was found about one split."""

    split: str
    place: str
    images: int = 0
    expected_images: int | None = None  # None: the config file declares the classes, so no number is right or wrong
    classes: int = 0
    expected_classes: int | None = None
    complete: bool = False
    absent_classes: list[str] = field(default_factory=list)  # wnids
    odd_classes: dict[str, int] = field(default_factory=dict)  # wnid -> images, where the set has another number
    sizes: dict[str, int] = field(default_factory=dict)  # "227x227" -> images, the commonest ten
    unreadable: dict[str, str] = field(default_factory=dict)  # id -> why
    origin: str = ""
    digest: str = ""
    content_digest: str | None = None
    accuracy: float | None = None  # percent, of the model that was given
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What `check` found under one root. `ok` decides the exit status: 0, or 1 where anything needs attention."""

    root: str
    sets: list[SetReport]
    absent: list[str]  # splits that are not here at all, which is no problem in itself
    model: str | None = None

    @property
    def ok(self) -> bool:
        return not any(found.problems for found in self.sets)

    def to_json(self) -> str:
        return json.dumps(
            {
                "root": self.root,
                "ok": self.ok,
                "model": self.model,
                "absent": self.absent,
                "sets": [asdict(found) for found in self.sets],
            },
            indent=1,
        )

    def to_text(self) -> str:
        """A table, then problems and notes in words."""
        head = ("set", "images", "classes", "sizes", "contents", "accuracy" if self.model else "", "")
        rows: list[tuple[str, ...]] = [head, *map(_row, _joined(self.sets))]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = [
            self.root,
            *("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows),
        ]
        for title in ("problems", "notes"):
            said: dict[str, list[str]] = {}
            for found in self.sets:
                for text in getattr(found, title):
                    said.setdefault(text, []).append(found.split)
            words = [f"  {_all(splits)}: {text}" for text, splits in said.items()]
            lines += [title, *words] if words else []
        if self.absent:
            lines.append(f"not here: {', '.join(self.absent)}")
        return "\n".join([*lines, "all is well" if self.ok else "not all is well"])


def _all(splits: list[str]) -> str:
    return splits[0] if len(splits) == 1 else f"{splits[0]} and {len(splits) - 1} more"


def _joined(sets: list[SetReport]) -> list[SetReport]:
    """Rows of the table: corrupted sets with nothing wrong share one."""
    fine = [found for found in sets if found.split.startswith("c/") and not found.problems]
    if len(fine) < 2:
        return sets
    together = SetReport(
        f"c, {len(fine)} sets",
        fine[0].place,
        images=sum(found.images for found in fine),
        expected_images=sum(found.expected_images or 0 for found in fine),
        classes=fine[0].classes,
        expected_classes=fine[0].expected_classes,
        sizes=fine[0].sizes,
    )
    return [*(found for found in sets if found not in fine), together]


def _row(found: SetReport) -> tuple[str, ...]:
    images = f"{found.images:,}" + (f" of {found.expected_images:,}" if found.expected_images else "")
    classes = f"{found.classes}" + (f" of {found.expected_classes}" if found.expected_classes else "")
    sizes = next(iter(found.sizes), "") + (", ..." if len(found.sizes) > 1 else "")
    accuracy = "" if found.accuracy is None else f"{found.accuracy:.1f} %"
    return (
        found.split,
        images,
        classes,
        sizes,
        found.content_digest or "",
        accuracy,
        "ok" if not found.problems else f"{len(found.problems)} problem{'s' * (len(found.problems) > 1)}",
    )
