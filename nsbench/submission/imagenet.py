"""What the published sets of ImageNet say about a submitted result's images, without having them.

How many there are, in all and of a class, is published; where an id holds a class (ImageNet-R's and Sketch's do), it is
the label; the labels of the validation set have a published digest; and ImageNet-C that nsbench made in memory has a
digest that follows from the validation set's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from nsbench.corruptions import CORRUPTIONS, ENGINES, EXTRA_CORRUPTIONS
from nsbench.data import wnids
from nsbench.data.corrupted import CorruptedSplit, digest_in_memory
from nsbench.data.image_ids import file_stem
from nsbench.data.robustbench_images import ROBUSTBENCH, stems
from nsbench.data.source import digest_of
from nsbench.making.expected import EXPECTED, Expected, is_published_val
from nsbench.results import ConditionResult
from nsbench.submission.archive import shown

IMAGENET = "imagenet"  # the name of the source; a part of it has a name of its own
ORIGINS = ("official", "generated-jpeg", "generated-png", CorruptedSplit.origin)
ATTACKED = "attacked on "  # how the origin of a transfer set begins


def set_problems(
    condition: ConditionResult, labels: Mapping[str, int], own: int | None, limit: int | None
) -> list[str]:
    """What cannot be of a published set, a line each. `labels`: by id; `own`: the limit of the suite's condition;
    `limit`: that of the run."""
    split, unreadable = condition.split, len(condition.unreadable)
    if split == ROBUSTBENCH and limit is None and not unreadable and {file_stem(one) for one in labels} != set(stems()):
        return ["its images are not the 5,000 of RobustBench"]
    wanted = _expected(split)
    if wanted is None:
        return []
    return (
        _count(len(labels) + unreadable, wanted, own, limit)
        or _available(condition.available, wanted, own)
        or _labels(split, labels, wanted)
        or ([] if unreadable else _classes(labels, wanted))
    )


def _expected(split: str) -> Expected | None:
    """None for a set that is not published. Sets that are attacked on a surrogate are made of the validation set."""
    name = split.partition("/")[0]
    return EXPECTED.get("clean" if name == "transfer" else name)


def origin_problems(condition: ConditionResult, ids: Iterable[str], limited: bool, clean: Iterable[str]) -> list[str]:
    """What cannot be the origin of a published set, a line each. `ids`: of the images; `clean`: digests of whole
    validation sets that figures of these results or of held ones are on."""
    origin, split = condition.origin, condition.split
    if _expected(split) is None:
        return []
    if split.startswith("transfer/"):
        surrogate = f"(weights {condition.surrogate_digest})"
        right = origin.startswith(ATTACKED) and origin.endswith(surrogate)
        return [] if right else [f"origin is {shown(origin)}, and not '{ATTACKED}NAME {surrogate}'"]
    if origin not in ORIGINS:
        return [f"origin is {shown(origin)}, which is none of {', '.join(ORIGINS)}"]
    in_memory = CorruptedSplit.origin
    if not split.startswith("c/"):
        return [f"origin is '{in_memory}', and only C is made in memory"] if origin == in_memory else []
    if origin != in_memory and condition.data_digest in _made_in_memory(split, ids if limited else (), clean):
        return [f"origin is {shown(origin)}, and its data digest is that of images made in memory, '{in_memory}'"]
    return []


def _made_in_memory(split: str, limited: Iterable[str], clean: Iterable[str]) -> set[str]:
    """Digests of this part of C as nsbench makes it of these validation sets, whole or of the ids `limited`."""
    _, corruption, severity = (*split.split("/"), "", "")[:3]
    if corruption not in (*CORRUPTIONS, *EXTRA_CORRUPTIONS) or not severity.isdecimal():
        return set()
    whole = {digest_in_memory(digest, corruption, int(severity), engine) for digest in clean for engine in ENGINES}
    ids = sorted(limited)
    return whole | ({digest_of(digest, *ids) for digest in whole} if ids else set())


def _count(here: int, wanted: Expected, own: int | None, limit: int | None) -> list[str]:
    known = min(number for number in (wanted.images, own, limit) if number)
    if here == known:
        return []
    limited = f", of which the limit leaves {known:,}" if known < wanted.images else ""
    return [
        f"has {here:,} images, and the published set has {wanted.images:,}{limited}; a part of a set needs a source of "
        'another name: name = "..." in the data config file'
    ]


def _available(stated: int | None, wanted: Expected, own: int | None) -> list[str]:
    """Images without the limit of the run."""
    known = min(wanted.images, own or wanted.images)
    if stated in (None, known):
        return []
    return [f"says that {stated:,} images were available, and without the run's limit there are {known:,}"]


def _labels(split: str, labels: Mapping[str, int], wanted: Expected) -> list[str]:
    """Ids with a class, n01440764/art_0, or of old results of V2 7/..., have its label."""
    numbered = split.startswith("v2")
    odd = [one for one, label in labels.items() if _of_folder(one, numbered) not in (None, label)]
    if odd:
        return [f"{len(odd):,} images have another label than their folder's class, such as {shown(odd[0])}"]
    if wanted.of_val and is_published_val(labels) is False:
        return ["its labels are not those of the published validation set"]
    return []


def _of_folder(image_id: str, numbered: bool) -> int | None:
    """None where it is in no class's folder."""
    folder = image_id.rpartition("/")[0].rpartition("/")[2]
    if numbered and folder.isascii() and folder.isdecimal() and len(folder) <= 4:
        return int(folder)
    return wnids.label_of().get(folder)


def _classes(labels: Mapping[str, int], wanted: Expected) -> list[str]:
    """A set with equally many images of each class has them under every limit too, but for one."""
    if not wanted.per_class:
        return []
    counts = Counter(labels.values())
    least, most = len(labels) // wanted.classes, -(-len(labels) // wanted.classes)
    odd = [label for label in range(wanted.classes) if not least <= counts[label] <= most]
    if not odd:
        return []
    return [
        f"{len(odd):,} classes have more or fewer than their share of {len(labels):,} images, such as class {odd[0]} with "
        f"{counts[odd[0]]:,}; the published set has {wanted.per_class} of each, and a limit keeps them equal"
    ]
