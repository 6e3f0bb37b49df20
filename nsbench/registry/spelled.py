"""Code and settings of one's own as a digest: equal in every process for what is equal, another one for what is not.

Functions and classes are told by what was compiled of them, which is what runs, whatever became of their file since,
and by the functions, classes and values that they name. What belongs to a library is told by its name: its version is
provenance. What nothing certain can be said of (an address, an open file, the state of a generator) is left out, for
it would make every run another measurement.
"""

from __future__ import annotations

import dis
import hashlib
import re
import sys
import sysconfig
from argparse import Namespace
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

LIBRARIES = frozenset(
    {"nsbench", "torch", "torchvision", "timm", "transformers", "numpy", "scipy", "PIL", "sklearn", "pandas"}
)
WITH_SETTINGS = frozenset({"nsbench", "torchvision", "timm", "transformers", "functools"})  # whose objects hold no more
STANDARD = Path(sysconfig.get_paths()["stdlib"])
SESSIONS = ("__main__", "__mp_main__")  # a script or a notebook, whatever program runs it
INSTALLED = ("site-packages", "dist-packages")  # folders of what is not followed any further
PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))
CERTAIN = (range, slice, Decimal, Fraction, date, time, timedelta)  # whose repr says all of them
CLASS_STATEMENT = 1 << 9  # flag of a class that Python code made: Py_TPFLAGS_HEAPTYPE
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")  # of an nn.Module
DEEPEST = 60  # of what lies in one another


def spelled(*values: object) -> str:
    """16 hex digits over these values, and over all that they consist of."""
    return _digest(map(Speller().of, values))


def spelled_network(network: Any) -> str:
    """16 hex digits over an nn.Module but for its weights: classes, settings, hooks, code."""
    return _digest([Speller().network(network, weights=False)])


def of_library(module: str | None) -> bool:
    """Whether it is Python's, or one of the libraries whose versions are provenance."""
    top = str(module or "").partition(".")[0]
    if top in SESSIONS or top in LIBRARIES or top in sys.builtin_module_names:
        return top not in SESSIONS
    file = file_of(module)
    return file is not None and _of_python(file)


def is_own(module: str | None) -> bool:
    """Whether it is a script's, a notebook's, or lies in a folder of one's own: then what it names is followed."""
    file = file_of(module)
    return module in SESSIONS or file is None or is_own_file(str(module), file)


def is_own_file(module: str, file: Path) -> bool:
    """Whether it lies in a folder of one's own, and not among what is installed."""
    top = module.partition(".")[0]
    return top not in LIBRARIES and not _of_python(file) and not set(INSTALLED) & set(file.parts)


def _of_python(file: Path) -> bool:
    return STANDARD in file.parents and not set(INSTALLED) & set(file.parts)


def file_of(module: str | None) -> Path | None:
    """That a module was loaded from."""
    name = getattr(sys.modules.get(module or ""), "__file__", None)
    return Path(name) if isinstance(name, str) else None


class Speller:
    """Values as short texts. Each object is looked at once; one that lies in itself is named where it comes again."""

    def __init__(self) -> None:
        self.known: dict[int, str] = {}
        self.kept: list[object] = []  # so that no number of `known` is given to another object
        self.depth = 0

    def of(self, value: Any) -> str:
        if isinstance(value, PLAIN) and type(value) in PLAIN:
            return repr(value)
        if id(value) in self.known:
            return self.known[id(value)]
        if self.depth >= DEEPEST:
            return _kind(value)
        self.known[id(value)] = f"again {_kind(value)}"
        self.kept.append(value)
        self.depth += 1
        text = self._told(value)
        self.depth -= 1
        self.known[id(value)] = text if len(text) <= 64 else _digest([text])
        return self.known[id(value)]

    def _told(self, value: Any) -> str:
        if (array := self._array(value)) is not None:
            return array
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, FunctionType | MethodType | BuiltinFunctionType | partial | CodeType | CellType):
            return self._callable(value)
        if isinstance(value, staticmethod | classmethod):
            return f"{_kind(value)} {self.of(value.__func__)}"
        if isinstance(value, property):
            return f"property {self._all([value.fget, value.fset])}"
        if isinstance(value, ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, Enum):
            return f"{self.of(type(value))}.{value.name}"
        if isinstance(value, PurePath):  # where a file lies moves nothing
            return f"path {value.name}"
        if isinstance(value, CERTAIN):
            return repr(value)
        return self._held(value)

    def _array(self, value: Any) -> str | None:
        """A network with its weights, or a tensor or an array with its bytes; None for anything else."""
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        if torch and hasattr(torch, "nn"):
            if isinstance(value, torch.nn.Module):
                return self.network(value, weights=True)
            if isinstance(value, torch.Tensor):
                return f"{value.dtype} {tuple(value.shape)} {_bytes_of(value)}"
            if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
                return str(value)
        if numpy and isinstance(value, numpy.ndarray | numpy.generic):
            inner = (
                self.of(value.tolist()) if value.dtype.hasobject else hashlib.sha256(value.tobytes()).hexdigest()[:16]
            )
            return f"{value.dtype.str} {value.shape} {inner}"
        return None

    def network(self, network: Any, *, weights: bool) -> str:
        """An nn.Module: the classes of its parts, their settings, hooks and code; `weights`: and what they hold."""
        return self._all(
            (name, *self._part(part, weights)) for name, part in network.named_modules(remove_duplicate=False)
        )

    def _part(self, part: Any, weights: bool) -> Iterable[object]:
        """What is no weight that a file of weights holds."""
        mechanics = vars(sys.modules["torch"].nn.Module())
        yield type(part)
        compiled = type(part).__module__.startswith("torch._dynamo")  # around a module that is among the parts
        yield {name: value for name, value in vars(part).items() if name not in mechanics and not compiled}
        yield [list(getattr(part, hooks, {}).values()) for hooks in HOOKS]
        unkept: set[str] = getattr(part, "_non_persistent_buffers_set", set())
        yield {name: one for name, one in part._buffers.items() if weights or name in unkept}
        yield dict(part._parameters) if weights else None
        code = getattr(part, "code", None) if "torch.jit" in type(part).__module__ else None
        yield code if isinstance(code, str) else None

    def _class(self, kind: type) -> str:
        made = kind.__flags__ & CLASS_STATEMENT and kind.__module__ == "builtins"  # by code that has no module
        if of_library(kind.__module__) and not made:
            return f"{kind.__module__}.{kind.__qualname__}"
        members = {
            name: member
            for name, member in vars(kind).items()
            if not name.startswith("__") or isinstance(member, FunctionType | staticmethod | classmethod)
        }
        return self._all([kind.__qualname__, kind.__bases__, members])

    def _callable(self, value: Any) -> str:
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, CellType):
            try:
                return self.of(value.cell_contents)
            except ValueError:  # it is still empty
                return "empty"
        if isinstance(value, partial):
            return self._all([value.func, value.args, value.keywords])
        if isinstance(value, MethodType):
            return self._all([value.__func__, value.__self__])
        if isinstance(value, BuiltinFunctionType):
            bound = None if isinstance(value.__self__, ModuleType | type) else value.__self__
            return f"{value.__module__}.{value.__qualname__} {self.of(bound)}"
        if of_library(value.__module__):
            return f"{value.__module__}.{value.__qualname__} {self._all(value.__closure__ or ())}"
        named = self._named(value) if is_own(value.__module__) else {}
        return self._all([value.__code__, value.__defaults__, value.__kwdefaults__, value.__closure__, named])

    def _code(self, code: CodeType) -> str:
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        exceptions = getattr(code, "co_exceptiontable", b"")
        return self._all(
            [code.co_code, code.co_consts, code.co_names, arguments, code.co_freevars, code.co_flags, exceptions]
        )

    def _named(self, function: FunctionType) -> dict[str, object]:
        """What stands in its module under the names that it uses, and in modules of one's own that it names."""
        read, known = sorted(_read(function.__code__)), function.__globals__
        found = {name: known[name] for name in read if name in known}
        for name, module in list(found.items()):
            if isinstance(module, ModuleType) and is_own(module.__name__):
                used = sorted(_names(function.__code__) & set(vars(module)))
                found |= {f"{name}.{other}": vars(module)[other] for other in used}
        return found

    def _held(self, value: Any) -> str:
        """A container, or an object with attributes."""
        kind, attributes = type(value), getattr(value, "__dict__", None)
        held: list[object] = [kind]
        if isinstance(value, Mapping):
            held += sorted(self._all(pair) for pair in value.items())
        elif isinstance(value, set | frozenset):
            held += sorted(map(self.of, value))
        elif isinstance(value, list | tuple | deque):
            held += value
        elif isinstance(value, re.Pattern):
            held += [value.pattern, value.flags]
        if isinstance(attributes, dict):
            held.append(dict(attributes) if _has_settings(kind) else _plain(attributes, kind))
        if of_library(kind.__module__):
            held.append(_called(value))
        else:
            held += [getattr(value, name, None) for one in kind.__mro__ for name in _slots(one)]
        return self._all(held)

    def _all(self, values: Iterable[object]) -> str:
        return f"({', '.join(map(self.of, values))})"


def _has_settings(kind: type) -> bool:
    """Whether all attributes of its objects are settings: not so of Python's own locks, threads and files."""
    top = kind.__module__.partition(".")[0]
    return not of_library(kind.__module__) or top in WITH_SETTINGS or kind in (Namespace, SimpleNamespace)


def _plain(attributes: Mapping[str, object], kind: type) -> dict[str, object]:
    """Of an object of torch's, such as a hook: numbers and words, but for the number that a process gave it."""
    if kind.__module__.partition(".")[0] != "torch":
        return {}
    return {name: value for name, value in attributes.items() if type(value) in PLAIN and name != "id"}


def _names(code: CodeType) -> set[str]:
    """That a function uses, and the functions in it: those of attributes, too."""
    return set(code.co_names).union(*(_names(one) for one in code.co_consts if isinstance(one, CodeType)))


def _read(code: CodeType) -> set[str]:
    """Names of its module that a function reads, and the functions in it."""
    here = {str(one.argval) for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return here.union(*(_read(one) for one in code.co_consts if isinstance(one, CodeType)))


def _called(value: object) -> str | None:
    """The name of a function that is none of Python's, such as one of numpy's or a method of a tensor."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return name if isinstance(name, str) else None


def _slots(kind: type) -> list[str]:
    named = vars(kind).get("__slots__", ())
    return [one for one in ([named] if isinstance(named, str) else list(named)) if not one.startswith("__")]


def _bytes_of(tensor: Any) -> str:
    """Of a tensor's values; "" where it has none that can be read, as on the device "meta"."""
    torch = sys.modules["torch"]
    try:
        plain = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        return hashlib.sha256(plain.numpy().tobytes()).hexdigest()[:16]
    except (RuntimeError, NotImplementedError, TypeError):
        return ""


def _kind(value: object) -> str:
    return type(value).__qualname__


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="backslashreplace")).hexdigest()[:16]
