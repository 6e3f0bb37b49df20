"""What is asked for from Python, as the command line would have it: its types, its bounds, and a line for what is none."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from typing import Any

from nsbench.errors import UsageError
from nsbench.types import LARGEST_COUNT

COUNTS = {"limit": 1, "batch_size": 1, "workers": 0}  # options that are whole numbers, and the least of each
ONE_OF = {  # as the command line's choices
    "match": ("steps", "compute"),
    "corruption_engine": ("nsbench", "imagecorruptions"),
    "normalisation": ("own", "imagenet", "half"),
    "class_map_by": ("sum", "mean", "max"),
}
SWITCHES = ("force", "allow_missing", "resize_ready", "follow_links")
TEXTS = ("checkpoint", "recipe", "device", "surrogate")
MAPPINGS = ("settings", "attack_settings")


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with values of the types that results can state. Raises UsageError."""
    found = dict(options)
    for name, value in options.items():
        if name in COUNTS and value is not None:
            found[name] = whole(name, value, COUNTS[name])
        elif name in ONE_OF and value not in ONE_OF[name]:
            raise UsageError(f"{name}: {value!r} is none of {', '.join(ONE_OF[name])}")
        elif name in SWITCHES and not isinstance(value, bool):
            raise UsageError(f"{name}: {value!r} is neither True nor False")
        elif name == "crop_pct" and value is not None:
            found[name] = _number(name, value)
        elif name in TEXTS and value is not None:
            found[name] = text(name, value)
        elif name in MAPPINGS:
            found[name] = _settings(name, value)
        elif name in ("mean", "std") and value is not None:
            found[name] = _channels(name, value)
    return found


def whole(name: str, value: object, least: int) -> int:
    """An int, or an integer of another library. Raises UsageError, also for True and for 5.0."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or not least <= number <= LARGEST_COUNT:
        raise UsageError(f"{name}: {value!r} is no whole number of at least {least}")
    return number


def seeds_of(value: object) -> tuple[int, ...]:
    """Several, each once. Raises UsageError."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable) or not (given := tuple(value)):
        raise UsageError(f"seeds: {value!r} is no sequence of whole numbers, such as (0, 1, 2)")
    return tuple(dict.fromkeys(whole("seeds", one, 0) for one in given))


def text(name: str, value: object) -> str:
    """A text; also a path, or a device of torch. Raises UsageError."""
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike) or type(value).__module__.split(".")[0] == "torch":
        return str(value)
    raise UsageError(f"{name}: {value!r} is no text")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise UsageError(f"{name}: {value!r} is no number")
    return float(value)


def _settings(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{name}: {value!r} is no mapping from names to values, such as {{'rounds': 2}}")
    return {str(one): str(setting) for one, setting in value.items()}


def _channels(name: str, value: object) -> tuple[float, ...]:
    if not isinstance(value, str | bytes) and isinstance(value, Iterable):
        try:
            found = tuple(float(one) for one in value)
        except (TypeError, ValueError):
            found = ()
        if len(found) == 3:
            return found
    raise UsageError(f"{name}: {value!r} are no three numbers, one for each channel")
