"""What `nsbench data check` found, as a table with words for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace


@dataclass(frozen=True)
class SetReport:
    """What was found about one split."""

    split: str
    place: str
    images: int = 0
    expected_images: int | None = None  # None: the config file declares the classes, so no number is right or wrong
    classes: int = 0
    expected_classes: int | None = None
    complete: bool = False
    absent_classes: tuple[str, ...] = ()  # wnids
    odd_classes: Mapping[str, int] = field(default_factory=dict)  # wnid -> images, where the set has another number
    sizes: Mapping[str, int] = field(default_factory=dict)  # "227x227" -> images, the commonest ten
    unreadable: Mapping[str, str] = field(default_factory=dict)  # id -> why
    origin: str = ""
    made_at: int | None = None  # pixels, of a set that nsbench made at another size than the official one
    digest: str = ""
    content_digest: str | None = None
    accuracy: float | None = None  # percent, of the model that was given
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """ "ok", or how many problems there are; the report has their words."""
        many = len(self.problems)
        return f"{many} problem{'s' if many > 1 else ''}" if many else "ok"

    def with_problem(self, text: str) -> SetReport:
        return replace(self, problems=(*self.problems, text))

    def with_note(self, text: str) -> SetReport:
        return replace(self, notes=(*self.notes, text))


@dataclass(frozen=True)
class Report:
    """All sets under one root. `ok` decides the exit status: 0, or 1 where anything needs attention."""

    root: str
    sets: tuple[SetReport, ...]
    absent: tuple[str, ...]  # splits that are not here at all, which is no problem in itself
    model: str | None = None

    @property
    def ok(self) -> bool:
        return not any(one.problems for one in self.sets)

    def to_json(self) -> str:
        content = {
            "root": self.root,
            "ok": self.ok,
            "model": self.model,
            "absent": self.absent,
            "sets": [asdict(one) for one in self.sets],
        }
        return json.dumps(content, indent=1)

    def to_text(self) -> str:
        """A table, then problems and notes in words."""
        head = ("set", "images", "classes", "sizes", "contents", "accuracy" if self.model else "", "")
        rows: list[tuple[str, ...]] = [head, *map(_row, _joined(self.sets))]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = [
            self.root,
            *("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows),
            *_in_words("problems", [(one.split, one.problems) for one in self.sets]),
            *_in_words("notes", [(one.split, one.notes) for one in self.sets]),
        ]
        if self.absent:
            lines.append(f"not here: {', '.join(self.absent)}")
        return "\n".join([*lines, "all is well" if self.ok else "not all is well"])


def _in_words(title: str, by_split: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Lines under a title, the same text of several splits once; none where nothing is said."""
    said: dict[str, list[str]] = {}
    for split, texts in by_split:
        for text in texts:
            said.setdefault(text, []).append(split)
    return [title, *(f"  {_all(splits)}: {text}" for text, splits in said.items())] if said else []


def _all(splits: list[str]) -> str:
    return splits[0] if len(splits) == 1 else f"{splits[0]} and {len(splits) - 1} more"


def _joined(sets: Sequence[SetReport]) -> Sequence[SetReport]:
    """Rows of the table: corrupted sets with nothing wrong share one."""
    fine = [one for one in sets if one.split.startswith("c/") and not one.problems]
    if len(fine) < 2:
        return sets
    together = replace(
        fine[0],
        split=f"c, {len(fine)} sets",
        images=sum(one.images for one in fine),
        expected_images=sum(one.expected_images or 0 for one in fine),
        content_digest=None,
        accuracy=None,
    )
    return [*(one for one in sets if one not in fine), together]


def _row(report: SetReport) -> tuple[str, ...]:
    images = f"{report.images:,}" + (f" of {report.expected_images:,}" if report.expected_images else "")
    classes = f"{report.classes}" + (f" of {report.expected_classes}" if report.expected_classes else "")
    sizes = next(iter(report.sizes), "") + (", ..." if len(report.sizes) > 1 else "")
    accuracy = "" if report.accuracy is None else f"{report.accuracy:.1f} %"
    verdict = "ok" if not report.problems else f"{len(report.problems)} problem{'s' * (len(report.problems) > 1)}"
    return report.split, images, classes, sizes, report.content_digest or "", accuracy, verdict
