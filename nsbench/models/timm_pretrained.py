"""timm's pretrained weights of a name and tag, such as `vit_small_patch16_224.augreg_in21k_ft_in1k`."""

from __future__ import annotations

from pathlib import Path

import timm

from nsbench.errors import ModelError
from nsbench.models.hub import fetch_first
from nsbench.models.loading import named_failure
from nsbench.models.torch_hub import fetch_address
from nsbench.types import Origin

FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository in timm's form, best first


def pretrained_file(name: str) -> tuple[Path, Origin]:
    """timm's weights of that name, and where they come from; without a tag those that timm takes first.

    Raises ModelError where timm has none of that name, or they are neither on disk nor to be downloaded.
    """
    with named_failure(name):  # of an architecture that timm knows with a tag that it does not
        config = timm.get_pretrained_cfg(name)
    if config is not None and config.hf_hub_id:
        repository = str(config.hf_hub_id)
        files = (str(config.hf_hub_filename),) if config.hf_hub_filename else FILES
        return fetch_first(repository, None, files, name), Origin("hf-hub", repository)
    if config is not None and config.url:
        return fetch_address(str(config.url), name), Origin("timm", str(config.url))
    raise ModelError(f"model '{name}': timm has no weights of that name; give --checkpoint FILE")
