"""Files that torch.hub keeps: torchvision's weights, and timm's that lie on no hub."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import torch
from torch.hub import HASH_REGEX

from nsbench.errors import ModelError
from nsbench.models.hub import offline


def fetch_address(address: str, written: str) -> Path:
    """The file of this address from torch.hub's folder (TORCH_HOME), else downloaded into it, with a bar.

    The digest that stands in its name is checked by the download. Raises ModelError, which says what to fetch and where
    to put it.
    """
    name = Path(urlparse(address).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    if offline():
        raise _absent(address, path, written, "HF_HUB_OFFLINE is set")
    match = HASH_REGEX.search(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(path), match.group(1) if match else None, progress=True)
    except Exception as error:  # of connections, of a wrong digest, of a full disk
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
        raise _absent(address, path, written, why) from error
    return path


def _absent(address: str, path: Path, written: str, why: str) -> ModelError:
    return ModelError(
        f"model '{written}': {path} is not there and cannot be downloaded ({why}); where there is a network, fetch "
        f"{address} and put it there"
    )
