"""The user's own code: `package.module:function`, or `./file.py:function`.

The function takes no arguments and returns an nn.Module from images (B, 3, H, W) in [0, 1] to logits (B, K), or that
with a Preprocessing. It normalises inside, unless --mean and --std are given. A network of timm's is cut at its patch
embedding as every other one is, and then nullspace noise works; any other module gives logits alone.

Only the file or module that the user named is executed, and what it imports itself.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from nsbench.errors import ModelError, NsbenchError, UsageError
from nsbench.files import expanded
from nsbench.models.catalogue import OWN_CODE, PLACES
from nsbench.models.loading import normalisation_word
from nsbench.models.model import Model
from nsbench.models.origin import of_file
from nsbench.models.preparation import SIZES
from nsbench.models.preprocessing import Preprocessing
from nsbench.models.request import Request
from nsbench.registry.spelled import spelled_network
from nsbench.types import Origin

SIZE_NAMES = ("input_size", "img_size", "image_size")  # attributes of a module that say the side of its input
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
AS_IT_IS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and std of a model that normalises inside


def load(request: Request) -> Model:
    """The model that the user's function returns. Raises UsageError or ModelError in one line."""
    request.without_checkpoint()
    where, _, function = request.name.rpartition(":")
    if not function.isidentifier():
        raise UsageError(
            f"model '{request.name}': is none of {', '.join(place.form for place in PLACES.values())}, {OWN_CODE.form}"
        )
    module, file = _imported(where, request.name)
    built = _called(module, function, request.name)
    network, prepared = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if not isinstance(network, nn.Module) or not isinstance(prepared, Preprocessing | None):
        raise ModelError(
            f"model '{request.name}': {function}() returned {_kinds(built)}; return an nn.Module from images (B, 3, H, W) "
            "in [0, 1] to logits (B, K), or a tuple of that and an nb.Preprocessing"
        )
    name = f"{Path(where).stem if file_named(where) else where}:{function}"
    return wrap_module(network, prepared, request, name, Origin("code", name), file)


def wrap_module(
    network: nn.Module,
    prepared: Preprocessing | None,
    request: Request,
    name: str,
    origin: Origin,
    file: Path | None = None,
) -> Model:
    """Any module from images to logits as a Model. `file`: of its code.

    Its digest, and what the network consists of, which other files and settings decide, tell it from other code.

    Raises ModelError where the module gives no logits, and UsageError where nobody says the size of its input.
    """
    network.to("cpu").eval()
    code = spelled_network(network)
    preprocessing = _preprocessing(network, prepared, request)
    asked = request.asked
    mean, std = asked.mean or AS_IT_IS[0], asked.std or AS_IT_IS[1]
    setattr(network, "num_classes", _classes(network, preprocessing.size, request.name))  # noqa: B010
    word = normalisation_word(request.normalisation, asked)
    with _named(request.name, "its forward pass"):
        model = Model(network, name=name, preprocessing=preprocessing, mean=mean, std=std, normalisation=word)
    model.own_preparation = False  # what stands beside the weights' code, or was asked for, may change without them
    model.origin = of_file(file, origin) if file else origin
    model.code_digest = hashlib.sha256(f"{name} {model.origin.sha256} {code}".encode()).hexdigest()[:16]
    return model


def wrap_in_memory(network: nn.Module, prepared: Preprocessing | None, request: Request) -> Model:
    """A module that exists already as a Model, a copy of its own; `request.name` is what it is called.

    It is known by its classes, their code, and the settings of all its parts, so that an edit is another model. Raises
    as `wrap_module` does, and UsageError for a name that no folder can have.
    """
    own = request.name
    if not NAME.fullmatch(own):
        raise UsageError(f"name '{own[:80]}': give a name of letters, digits and . _ -")
    return wrap_module(deepcopy(network), prepared, request, own, Origin("code", own))


def file_named(where: str) -> bool:
    """Whether a file is meant, and no module."""
    return where.endswith(".py")


def _imported(where: str, written: str) -> tuple[ModuleType, Path | None]:
    """The module, and the file that it stands in."""
    if file_named(where):
        path = expanded(where).absolute()
        if not path.is_file():
            raise UsageError(f"model '{written}': {where} is not a file")
        return _run_file(path, written), path
    if not all(part.isidentifier() for part in where.split(".")):
        raise UsageError(f"model '{written}': '{where}' is neither a Python module nor a .py file")
    try:
        known = importlib.util.find_spec(where) is not None
    except ImportError:  # of a package above it
        known = False
    if not known:
        raise UsageError(
            f"model '{written}': there is no module '{where}'; install it, put its folder on PYTHONPATH, or name the file: "
            f"./{where.replace('.', '/')}.py:{written.rpartition(':')[2]}"
        )
    with _named(written, f"importing {where}"):
        module = importlib.import_module(where)
    file = inspect.getsourcefile(module)
    return module, Path(file) if file else None


def _run_file(path: Path, written: str) -> ModuleType:
    """A file as a module under a name of its own, so that worker processes and pickles find its classes."""
    name = f"nsbench_model_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"model '{written}': {path} is not a Python file that can be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _named(written, f"running {path.name}"):
        spec.loader.exec_module(module)
    return module


def _called(module: ModuleType, function: str, written: str) -> Any:
    build: Callable[[], Any] | None = getattr(module, function, None)
    if not callable(build):
        raise UsageError(f"model '{written}': there is no function '{function}' in {module.__file__}")
    with _named(written, f"{function}()"):
        return build()


@contextmanager
def _named(written: str, doing: str) -> Iterator[None]:
    """What a user's code raises, as one line that names its place."""
    try:
        yield
    except NsbenchError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        why = " ".join(str(error).split())[:200]
        where = f"{Path(last.filename).name}:{last.lineno}"
        raise ModelError(f"model '{written}': {doing} raised {type(error).__name__}: {why} ({where})") from error


def _preprocessing(network: nn.Module, prepared: Preprocessing | None, request: Request) -> Preprocessing:
    """Of the size that was asked for, given beside the module, or said by the module itself."""
    asked = request.asked
    size = asked.size or (prepared.size if prepared else None) or _said_size(network)
    if size is None:
        raise UsageError(
            f"model '{request.name}': the size of its input is not known; give --img-size, return (module, "
            "nb.Preprocessing(size)), or let the module have an attribute input_size"
        )
    base = prepared or (Preprocessing(size, request.crop_pct) if request.crop_pct else Preprocessing(size))
    return Preprocessing(
        size,
        asked.crop_pct or base.crop_pct,
        asked.interpolation or base.interpolation,
        asked.crop_mode or base.crop_mode,
    )


def _said_size(network: nn.Module) -> int | None:
    """The side in pixels that the module, or the patch embedding of timm's, has as an attribute."""
    for holder in (network, getattr(network, "patch_embed", None)):
        for name in SIZE_NAMES:
            value = getattr(holder, name, None)
            sides = value[-2:] if isinstance(value, tuple | list) else (value,)
            if all(isinstance(side, int) for side in sides) and len(set(sides)) == 1 and sides[0] in SIZES:
                return int(sides[0])
    return None


@torch.no_grad()
def _classes(network: nn.Module, size: int, written: str) -> int:
    """K of the logits (2, K) of two grey images."""
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    with _named(written, f"its forward pass on images (2, 3, {size}, {size})"):
        logits = network(torch.full((2, 3, size, size), 0.5, device=device))
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != 2 or not logits.is_floating_point():
        raise ModelError(f"model '{written}': of two images it gives {_kinds(logits)}, and logits (2, K) are needed")
    return int(logits.shape[1])


def _kinds(value: Any) -> str:
    """What something is, in a word or two."""
    if isinstance(value, torch.Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(one).__name__ for one in value)}"
    return f"a {type(value).__name__}"
