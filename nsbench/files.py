"""Where nsbench keeps files of its own, and how it writes any file: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Root of rendered data and fitted weights; NSBENCH_CACHE overrides the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ["NSBENCH_CACHE"]) if os.environ.get("NSBENCH_CACHE") else user_cache_path("nsbench")


def write_atomically(path: Path, content: bytes) -> None:
    """Either the whole content is there under this name, or what was there before. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
