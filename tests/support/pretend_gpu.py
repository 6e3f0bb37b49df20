"""A GPU that is none: its tensors say that they lie on `cuda:0` and compute on the CPU. As a pytest plugin,

    PYTHONPATH=tests/support python -m pytest -n 0 -m gpu -p pretend_gpu

runs the tests of a GPU where there is none. What they find there is what mixes the two memories: an operation on tensors
of both, or a tensor of the GPU that is read as if it lay here, raises as it does with a real one. What only a real one
shows (kernels that round otherwise, half precision, running out of memory, speed) they do not find.

How: to PyTorch such a tensor is one of the device `meta`, which any installation has, and holds no values; those are in
`values`, on the CPU. One mode answers "cuda" to whoever asks for its device, and turns "cuda" into `meta` on the way in;
another runs each operation on the values and wraps what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.data
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

GPU, META, CPU = torch.device("cuda:0"), torch.device("meta"), torch.device("cpu")
BETWEEN = {"copy_", "_to_copy"}  # operations that move values from one memory to the other
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
MADE_OF_NUMBERS = {"tensor", "as_tensor", "asarray"}
READ_HERE = {"numpy", "__array__", "__dlpack__"}
SUBSCRIPTS = {"__getitem__", "__setitem__"}
ANSWERS = {Tensor.device: GPU, Tensor.is_cuda: True, Tensor.is_cpu: False, Tensor.is_meta: False}


class There(Tensor):
    """A tensor on the pretended GPU."""

    values: Tensor  # on the CPU

    @staticmethod
    def __new__(cls, values: Tensor) -> There:
        made: There = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=META,
        )
        made.values = values
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"There({self.values!r})"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operation, args, kwargs or {})


class _Operations(TorchDispatchMode):
    """Those without a tensor of the GPU among their arguments: what makes one, or is of the CPU alone."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operation, args, kwargs or {})


class _Words(TorchFunctionMode):
    """What the program says and is told of devices."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(function, "__name__", ""), dict(kwargs or {})
        mine = bool(args) and isinstance(args[0], There)
        if name == "__get__" and mine and (asked := getattr(function, "__self__", None)) in ANSWERS:
            return ANSWERS[asked]
        if name in SUBSCRIPTS and mine:  # numbers would become an index of `meta`, which holds no values
            args = (args[0], tree_map(_placed, args[1], is_leaf=_is_numbers), *args[2:])
        if name == "tolist" and mine:
            return args[0].values.tolist()
        if name in READ_HERE and mine:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name == "cuda":
            return args[0].to(META)
        if name == "new_tensor" and (mine or _is_gpu(kwargs.get("device"))):
            given = {"dtype": args[0].dtype} | {key: value for key, value in kwargs.items() if key != "device"}
            return torch.tensor(*args[1:], **given).to(META)
        if name in MADE_OF_NUMBERS and _is_gpu(kwargs.get("device")):
            return function(*args, **kwargs | {"device": CPU}).to(META)
        if name == "to" and len(args) > 1 and isinstance(args[1], There):
            return args[0].to(META, args[1].dtype)
        if name == "to":
            args = tuple(META if _is_gpu(value) else value for value in args)
        if _is_gpu(kwargs.get("device")):
            kwargs["device"] = META
        return function(*args, **kwargs)


def _is_numbers(part: object) -> bool:
    return isinstance(part, list)


def _placed(part: Any) -> Any:
    return torch.tensor(part) if _is_numbers(part) else part


def _is_gpu(device: object) -> bool:
    return isinstance(device, str | torch.device) and str(device).startswith("cuda")


def _computed(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The operation on the CPU; of the GPU is what comes out if it was asked for there, or an argument is."""
    name = operation._schema.name.split("::")[1]
    _refuse_a_mixture(name, args, kwargs)
    is_there = any(isinstance(value, There) for value in tree_flatten((args, kwargs))[0])
    if (device := kwargs.get("device")) is not None:
        is_there = torch.device(device).type == "meta"
        kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory"} | {"device": CPU}
    with _disable_current_modes():
        found = operation(*tree_map(_values, args), **tree_map(_values, kwargs))
    if name == "copy_":
        return args[0]
    if name == "_local_scalar_dense" or not is_there:
        return found
    wrapped = tree_map(lambda value: There(value) if _is_here(value) else value, found)
    return return_and_correct_aliasing(operation, args, kwargs, wrapped)


def _refuse_a_mixture(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """As PyTorch does: beside a tensor of the GPU one of the CPU is a single number, or the place in an index."""
    flat = tree_flatten((args, kwargs))[0]
    if name in BETWEEN or not any(isinstance(value, There) for value in flat):
        return
    is_index = name in INDEXED and isinstance(args[0], There)
    places = {id(value) for value in tree_flatten(args[1])[0]} if is_index else set()
    if any(_is_here(value) and value.dim() and id(value) not in places for value in flat):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu! (when in {name})")


def _is_here(value: object) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, There)


def _values(value: Any) -> Any:
    return value.values if isinstance(value, There) else value


@contextmanager
def _nothing(device: object = None) -> Iterator[None]:
    yield


def _ignoring() -> Callable[..., None]:
    """A function of its own each time: PyTorch's compiler keeps a table of them."""
    return lambda *args, **kwargs: None


def _without_pins(make: Callable[..., None]) -> Callable[..., None]:
    """A loader without pinned memory, which the driver gives."""

    def made(self: object, *args: object, pin_memory: bool = False, **kwargs: object) -> None:
        make(self, *args, **kwargs)

    return made


def pretend() -> None:
    """From now on this process has a GPU."""
    answers: dict[str, Callable[..., object]] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "a pretended GPU",
        "max_memory_allocated": lambda device=None: 1 << 20,
        "is_bf16_supported": lambda *args, **kwargs: True,
        "manual_seed": torch.default_generator.manual_seed,
        "get_rng_state": lambda device=None: torch.default_generator.get_state(),
        "device": _nothing,
    }
    nothing = ("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats", "set_rng_state", "_lazy_init")
    for name in nothing:
        setattr(torch.cuda, name, _ignoring())
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    torch.accelerator.current_device_index = lambda: 0
    torch.inference_mode = torch.no_grad  # its tensors cannot be wrapped
    torch.optim.Optimizer._accelerator_graph_capture_health_check = _ignoring()
    torch.utils.data.DataLoader.__init__ = _without_pins(torch.utils.data.DataLoader.__init__)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.autograd.set_multithreading_enabled(False).__enter__()  # a GPU's gradients have a thread of the driver's own
    _Words().__enter__()
    _Operations().__enter__()


pretend()
