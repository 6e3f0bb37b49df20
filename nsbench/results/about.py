"""Row facts in a small TOML file, for `--about`:

title = "Approximate Nullspace Augmented Finetuning for Robust Vision Transformers"
authors = ["Haoyang Liu", "Aditya Singh"]
paper = "https://arxiv.org/abs/2403.10476"
code = "https://github.com/owner/name"
weights = "https://huggingface.co/owner/name"
licence = "Apache-2.0"
date = 2025-03-24
"""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from nsbench.errors import UsageError
from nsbench.files import read_regular
from nsbench.results.record import About


def read_about(path: Path) -> About:
    """The facts in a file. Raises UsageError, which names the line's key."""
    try:
        content = tomllib.loads(read_regular(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--about {path}: cannot be read ({error}); see nsbench/results/about.py") from error
    plain = {key: value.isoformat() if isinstance(value, datetime.date) else value for key, value in content.items()}
    try:
        return TypeAdapter(About).validate_python(plain)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        known = ", ".join(About.__dataclass_fields__)
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"--about {path}: {where}: {first['msg']}; it may hold {known}") from error
