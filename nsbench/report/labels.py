"""Labels of rows where a figure has little room for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

SEPARATOR = " · "  # between the parts of a row's label


def shortened(labels: Iterable[str], most: int) -> dict[str, str]:
    """The labels of one figure, those of more than `most` characters cut, and by their parts, so that a reader can tell
    them apart: behind the name of a row stand the parts that the fewest others have. What is left out is an ellipsis."""
    parts = {label: label.split(SEPARATOR) for label in labels}
    shared = Counter(part for mine in parts.values() for part in set(mine))
    return {label: label if len(label) <= most else _cut(mine, shared, most) for label, mine in parts.items()}


def _cut(parts: Sequence[str], shared: Mapping[str, int], most: int) -> str:
    name, *others = parts
    kept: list[int] = []
    for place in sorted(range(len(others)), key=lambda place: shared[others[place]]):
        if not kept or len(_joined(name, others, [*kept, place])) <= most:
            kept.append(place)
    text = _joined(name, others, kept)
    if kept and len(text) > most and len(name) > most // 2 and shared[name] > 1:
        # half of the room is for what tells it from others of its name
        text = SEPARATOR.join([_ended(name, most // 2), others[kept[0]]])
    return _ended(text, most)


def _ended(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip(SEPARATOR)}…"


def _joined(name: str, others: Sequence[str], kept: Iterable[int]) -> str:
    """In their order, and an ellipsis for those that are not kept."""
    places = sorted(kept)
    return SEPARATOR.join([name, *(others[place] for place in places)]) + (" …" if len(places) < len(others) else "")
