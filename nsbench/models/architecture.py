"""What timm builds a network from: a registered name, arguments of its constructor, and a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """`timm.create_model(name, **args)`."""

    name: str  # registered with timm, with or without a tag
    args: Mapping[str, Any] = field(default_factory=dict)  # timm's `model_args`
    config: Mapping[str, Any] | None = None  # timm's `pretrained_cfg`; None: the one that timm has of this name
