"""Weights under other names than timm's: prefixes, counters of averaging, transformers' ViT, old files of a family."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from nsbench.errors import ModelError

State = dict[str, torch.Tensor]
# Added by DistributedDataParallel, torch.compile, Lightning, wrappers of people's own, averaging
PREFIXES = ("module.", "_orig_mod.", "model.", "timm_model.", "encoder.", "backbone.", "network.", "net.", "ema.")
EXTRA_TOKENS = 4  # class, distillation and register tokens: so many more or fewer are no other image size
COUNTERS = ("n_averaged", "num_updates")  # of torch's SWA and of exponential averages: no weights

_LAYERS = {  # transformers' ViTForImageClassification and DeiTForImageClassification, in timm's words
    r"embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    r"embeddings\.cls_token$": "cls_token",
    r"embeddings\.distillation_token$": "dist_token",
    r"embeddings\.position_embeddings$": "pos_embed",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"blocks.\1.attn.proj.",
    r"encoder\.layer\.(\d+)\.intermediate\.dense\.": r"blocks.\1.mlp.fc1.",
    r"encoder\.layer\.(\d+)\.output\.dense\.": r"blocks.\1.mlp.fc2.",
    r"encoder\.layer\.(\d+)\.layernorm_before\.": r"blocks.\1.norm1.",
    r"encoder\.layer\.(\d+)\.layernorm_after\.": r"blocks.\1.norm2.",
    r"layernorm\.": "norm.",
    r"(?:cls_)?classifier\.": "head.",
    r"distillation_classifier\.": "head_dist.",
}
_QUERY = re.compile(r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)")


def timm_names(state: State, network: nn.Module, name: str, path: Path, resample: bool = False) -> State:
    """The weights under the names that `network` has. What fits already is returned as it is.

    Shapes are changed only as timm does it for old files of the family (a patch embedding kept as a matrix, a gamma that
    became a layer of its own), and to another number of patches only with `resample`. Raises ModelError for such a file.
    """
    own = network.state_dict()
    state = without_prefixes(state, own)
    if fits(state, own):
        return state
    if any("patch_embeddings.projection.weight" in key for key in state):
        state = _from_transformers(state)
    if not fits(state, own):
        if not resample:
            _require_its_size(state, own, name, path)
        state = _of_family(state, network)
    return state


def from_big_vision(path: Path, network: nn.Module) -> State:
    """The weights of a JAX file (.npz) of big_vision or vision_transformer, read by timm. Raises ModelError."""
    load = getattr(network, "load_pretrained", None)
    if load is None:
        raise ModelError(f"checkpoint '{path}': timm reads .npz files of vision transformers alone")
    with torch.no_grad():
        for value in network.state_dict().values():
            value.fill_(torch.nan if value.is_floating_point() else 0)
    try:
        load(str(path))
    except (KeyError, ValueError, RuntimeError, TypeError, AttributeError, OSError) as error:
        raise ModelError(
            f"checkpoint '{path}' is no .npz of this architecture ({str(error).splitlines()[0]}); give --model the "
            "one that it was saved from"
        ) from error
    state = {name: value.clone() for name, value in network.state_dict().items()}
    if missing := [name for name, value in state.items() if value.is_floating_point() and value.isnan().any()]:
        raise ModelError(f"checkpoint '{path}' lacks {len(missing)} weights of this architecture ({missing[0]}, ...)")
    return state


def fits(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> bool:
    """Names and shapes are those of the model."""
    return state.keys() == own.keys() and all(state[key].shape == value.shape for key, value in own.items())


def without_prefixes(state: State, own: Mapping[str, torch.Tensor]) -> State:
    """In any order and number, as long as all names begin alike and are not the model's yet."""
    state = {name: value for name, value in state.items() if name.rpartition(".")[2] not in COUNTERS}
    while not state.keys() & own.keys():
        prefix = next((one for one in PREFIXES if all(name.startswith(one) for name in state)), None)
        if prefix is None or not state:
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _from_transformers(state: State) -> State:
    found: State = {}
    projections: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        plain = re.sub(r"^(vit|deit)\.", "", key)
        if match := _QUERY.fullmatch(plain):
            layer, which, kind = match.groups()
            projections.setdefault((layer, kind), {})[which] = value
            continue
        for pattern, words in _LAYERS.items():
            renamed, times = re.subn(f"^{pattern}", words, plain)
            if times:
                plain = renamed
                break
        found[plain] = value
    for (layer, kind), parts in projections.items():
        if len(parts) == 3:
            found[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat([parts[one] for one in ("query", "key", "value")])
    return found


def _require_its_size(state: State, own: Mapping[str, torch.Tensor], name: str, path: Path) -> None:
    theirs, mine = state.get("pos_embed"), own.get("pos_embed")
    if theirs is None or mine is None or theirs.ndim != 3 or abs(theirs.shape[1] - mine.shape[1]) <= EXTRA_TOKENS:
        return
    raise ModelError(
        f"checkpoint '{path}' does not fit '{name}': its position embedding is of {theirs.shape[1]} tokens, and the "
        f"model has {mine.shape[1]}; give the architecture of that image size, or"
        " --img-size, with which the embedding is resampled as timm does it"
    )


def _of_family(state: State, network: nn.Module) -> State:
    """What timm's own reader of this family makes of it; unchanged where that cannot read it."""
    filter_: Callable[..., State] | None = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if filter_ is None:
        return state
    scaled = {"adapt_layer_scale": True} if "adapt_layer_scale" in inspect.signature(filter_).parameters else {}
    try:
        return dict(filter_(dict(state), network, **scaled))
    except (KeyError, IndexError, RuntimeError, TypeError, ValueError, AttributeError):
        return state  # it is held against the model's names and shapes next, and refused in those words
