"""A pair whose images are evaluated in parts: which images belong to a part, and the whole of all parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nsbench import processes, registry
from nsbench.attacks.card import attack_card, together
from nsbench.data import Split
from nsbench.data.source import Subset
from nsbench.results.samples import Sample, Sampler, pictures_of
from nsbench.run.evaluate import Evaluation, none_read
from nsbench.types import Condition, Outcomes


def parts_of(splits: Sequence[Split], most: int | None) -> int:
    """How many parts there are where a part has so many images of a condition at most."""
    return 1 if most is None else max(_parts(split, most) for split in splits)


def part_of(splits: Sequence[Split], most: int, part: int) -> list[Split | None]:
    """The images of each condition that belong to this part, from 0 on; None where there are none."""
    return [_range(split, part, _parts(split, most)) for split in splits]


def whole(conditions: Sequence[Condition], parts: Sequence[Mapping[str, Evaluation]]) -> dict[str, Evaluation]:
    """By condition: what one evaluation of all its images gives. `parts` are in their order.

    Raises DataError where no image of a condition could be read.
    """
    pictures = pictures_of([condition.name for condition in conditions])
    found = {}
    for condition in conditions:
        own = [part[condition.name] for part in parts if condition.name in part]
        found[condition.name] = _joined(condition, own, pictures.get(condition.name, 0))
    return found


def _parts(split: Split, most: int) -> int:
    return max(1, -(-len(split) // most))


def _range(split: Split, part: int, parts: int) -> Split | None:
    if part >= parts:
        return None
    return split if parts == 1 else Subset(split, np.arange(len(split))[processes.share(len(split), part, parts)])


def _joined(condition: Condition, own: Sequence[Evaluation], pictures: int) -> Evaluation:
    costs = [one.cost for one in own if one.cost is not None]
    cost = together(costs) if costs else None
    card = attack_card(registry.attacks[condition.attack], condition, cost) if condition.attack and cost else None
    unreadable = {image: why for one in own for image, why in one.unreadable.items()}
    outputs = next((one.outputs for one in own if one.outputs), None)
    read = [one.outcomes for one in own if len(one.outcomes)]
    if not read:
        raise none_read(condition.split, len(unreadable))
    outcomes = _outcomes(read)
    return Evaluation(outcomes, unreadable, card, _samples([one.samples for one in own], pictures), outputs, cost)


def _samples(parts: Sequence[Sequence[Sample]], pictures: int) -> tuple[Sample, ...]:
    sampler = Sampler(pictures)
    sampler.take_over(parts)
    return tuple(sampler.samples)


def _outcomes(parts: Sequence[Outcomes]) -> Outcomes:
    """In the order of the parts, which is that of the split."""
    first = parts[0]

    def joined(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
        return None if columns[0] is None else np.concatenate([one for one in columns if one is not None])

    return Outcomes(
        np.concatenate([one.ids for one in parts]),
        np.concatenate([one.labels for one in parts]),
        np.concatenate([one.predictions for one in parts]),
        {name: np.concatenate([one.extra[name] for one in parts]) for name in first.extra},
        joined([one.label_probability for one in parts]),
        joined([one.confidence for one in parts]),
        joined([one.top5 for one in parts]),
    )
