"""Weights on disk: reading checkpoints of others, writing our own (safetensors), naming weights by a digest."""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from nsbench.errors import ModelError, UsageError
from nsbench.files import WEIGHT_SUFFIXES, write_atomically
from nsbench.models.model import Model

RAW, AVERAGED = ("state_dict", "model", "model_state_dict"), ("state_dict_ema", "model_ema", "ema_state_dict")
WHICH = {"ema": (*AVERAGED, *RAW), "raw": (*RAW, *AVERAGED)}  # where training scripts keep weights, best first, as timm
DEEPEST = 8  # wrappers that are looked into: a dictionary may contain itself
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # cast to the model's type, and named
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)  # of counters and indices alone
FOREIGN = re.compile(r"GLOBAL ([\w.]+)")  # in torch's message about a type that it does not load
State = dict[str, torch.Tensor]


def _numpy_scalars() -> list[Any]:
    """What a NumPy number is pickled by."""
    multiarray = getattr(np, "_core", None) or np.core
    return [multiarray.multiarray.scalar, np.dtype, *{type(np.dtype(kind)) for kind in "?bhilqBHILQefdSU"}]


PLAIN = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    *_numpy_scalars(),
]  # in a pickle: they run no code


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    state: State  # tensors by name, without wrappers, in the names that the file gives them
    taken: str = ""  # the key that they stood under, where the file has averaged and raw ones
    args: Any = None  # of the training script, where it kept them


def read_checkpoint(path: Path, which: str = "ema") -> Checkpoint:
    """The weights of a file. Pickles are read with `weights_only`: they run no code.

    `which` of them, "ema" or "raw", where the file has averaged and raw ones. Raises ModelError; UsageError
    where there is no such file.
    """
    if not os.path.isfile(path):
        if not os.path.exists(path):
            raise UsageError(f"checkpoint '{path}' does not exist")
        raise ModelError(f"checkpoint '{path}' is not a file")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise ModelError(f"checkpoint '{path}': '{path.suffix}' is none of {', '.join(WEIGHT_SUFFIXES)}")
    found = _unwrapped(_content(path), path, WHICH[which])
    for name, tensor in found.state.items():
        if reason := _no_weights(tensor):
            raise ModelError(f"checkpoint '{path}': '{name}' {reason}")
    return found


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name.removeprefix("params/"): torch.from_numpy(arrays[name]) for name in arrays.files}
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(PLAIN):
            return torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := FOREIGN.search(str(error)):
            raise ModelError(
                f"checkpoint '{path}' holds a Python object of type {found.group(1)}, which is not loaded because it could "
                "run code; save the state_dict alone, as safetensors"
            ) from error
        raise ModelError(f"checkpoint '{path}' is damaged ({_first_line(error)}); copy or download it again") from error
    except Exception as error:  # torch's reader lets through whatever it meets in a damaged file
        raise ModelError(
            f"checkpoint '{path}' cannot be read ({_first_line(error)}); copy or download it again"
        ) from error


def _no_weights(tensor: torch.Tensor) -> str:
    """Why a tensor cannot be taken, and what to do; "" where it can."""
    again = "save the state_dict of the model on the CPU, as float32"
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return f"is stored as {'a quantised' if tensor.is_quantized else 'a sparse'} tensor; {again}"
    if tensor.device.type != "cpu":
        return f"has no values (device '{tensor.device.type}'); {again}"
    if tensor.dtype not in FLOATS and tensor.dtype not in WHOLE:
        return f"is of type {_name(tensor.dtype)}, and weights are not made of that; {again}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"has {tensor.numel():,} values, of which its file holds fewer; {again}"
    if not torch.isfinite(tensor.float() if tensor.dtype == torch.float64 else tensor).all():
        return "holds NaN or infinite values; the file is damaged or its training diverged"
    return ""


def stored_types(state: Mapping[str, torch.Tensor], model_state: Mapping[str, torch.Tensor]) -> str:
    """The types of floats that are cast to the model's, such as "float16"; "" where none is."""
    cast = {_name(value.dtype) for key, value in state.items() if value.dtype != model_state[key].dtype}
    return " and ".join(sorted(cast))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _unwrapped(content: Any, path: Path, keys: Sequence[str]) -> Checkpoint:
    """The tensors, from under whatever keys."""
    taken, args = "", None
    for _ in range(DEEPEST):
        if not isinstance(content, Mapping):
            break
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            if odd := [key for key in content if not isinstance(key, str)]:
                raise ModelError(
                    f"checkpoint '{path}': {str(odd[0])[:40]!r} ({type(odd[0]).__name__}) is no name of a tensor; save the "
                    "model's state_dict"
                )
            return Checkpoint(dict(content), taken, args)
        found = [key for key in keys if isinstance(content.get(key), Mapping)]
        if not found:
            break
        if any(key in AVERAGED for key in found) and any(key in RAW for key in found):
            taken = found[0]
        args = content.get("args", content.get("hyper_parameters", args))
        content = content[found[0]]
    raise ModelError(
        f"checkpoint '{path}' holds no weights: expected tensors by name, or them under one of the keys "
        f"{', '.join((*RAW, *AVERAGED))}"
    )


def check_fit(
    state: Mapping[str, torch.Tensor], model_state: Mapping[str, torch.Tensor], name: str, path: Path
) -> None:
    """Raise ModelError, in one line with the first keys of each kind, unless names, shapes and kinds are the model's."""
    shapes = [
        f"{key} {list(value.shape)} instead of {list(model_state[key].shape)}"
        for key, value in state.items()
        if key in model_state and value.shape != model_state[key].shape
    ]
    types = [
        f"{key} {_name(value.dtype)} instead of {_name(model_state[key].dtype)}"
        for key, value in state.items()
        if key in model_state and value.is_floating_point() != model_state[key].is_floating_point()
    ]
    problems = {
        "missing": [key for key in model_state if key not in state],
        "unexpected": [key for key in state if key not in model_state],
        "of another shape": shapes,
        "of another kind": types,
    }
    parts = [
        f"{len(keys)} {kind} ({', '.join(keys[:2])}{', ...' if len(keys) > 2 else ''})"
        for kind, keys in problems.items()
        if keys
    ]
    if parts:
        raise ModelError(
            f"checkpoint '{path}' does not fit '{name}': {'; '.join(parts)}; "
            "give --model the architecture that it was saved from"
        )


def weights_digest(model: Model) -> str:
    """16 hex digits over names, types, shapes and bytes of all weights, in timm's names, and over `model.marks`."""
    digest = hashlib.sha256("".join(f"{mark}\x1e" for mark in model.marks).encode())
    for name, tensor in sorted(model.timm_state_dict().items()):
        digest.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1f".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def save_weights(model: Model, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the weights as safetensors under timm's names; a file that is there is complete."""
    state: State = {}
    for name, tensor in model.timm_state_dict().items():  # tied weights share memory, which safetensors does not write
        tied = tensor.untyped_storage().data_ptr() in {one.untyped_storage().data_ptr() for one in state.values()}
        plain = tensor.detach().cpu().contiguous()
        state[name] = plain.clone() if tied else plain
    write_atomically(Path(path), save(state, metadata=dict(metadata or {})))


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
