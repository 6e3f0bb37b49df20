"""Settings of a method's own, such as sam.rho, among what `--set` gives: beside the recipe that all methods share."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from nsbench import registry
from nsbench.errors import UnknownName, UsageError
from nsbench.types import Method, Setting

LARGEST = 2**53  # the whole numbers that every reader of JSON keeps


def of_recipe(settings: Mapping[str, str]) -> dict[str, str]:
    """Fields of the recipe: those without a method's name before them."""
    return {field: value for field, value in settings.items() if "." not in field}


def require_known(settings: Mapping[str, str], methods: Collection[str]) -> None:
    """Every setting with a dot is one of a method of this run. Raises UnknownName or UsageError."""
    parts = {part.name: part for name in methods for part in _parts(registry.methods[name])}
    for part in parts.values():
        for name, parameter in part.parameters.items():
            _require_kept(parameter.default, f"{part.name}.{name}")
    for field, text in settings.items():
        name, dot, own = field.partition(".")
        if not dot:
            continue
        method = registry.methods[name]
        if method.parts or own not in method.parameters:
            raise UnknownName(f"setting of {name}", own, list(method.parameters))
        if name not in parts:
            raise UsageError(f"--set {field}={text}: {name} is not among the methods of this run, {', '.join(methods)}")
        _value(method, own, text)


def with_settings(method: Method, settings: Mapping[str, str]) -> Method:
    """The method, or the chain, with those of `settings` that are its own and differ from its defaults."""
    if method.parts:
        return replace(method, parts=tuple(with_settings(part, settings) for part in method.parts))
    given = {
        name: _value(method, name, settings[f"{method.name}.{name}"])
        for name in method.parameters
        if f"{method.name}.{name}" in settings
    }
    return replace(
        method, given={name: value for name, value in given.items() if value != method.parameters[name].default}
    )


def _parts(method: Method) -> tuple[Method, ...]:
    return method.parts or (method,)


def _stated(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The type that the function states, or that of the default where it states none that can be read."""
    try:
        stated = inspect.signature(function, eval_str=True).parameters[parameter.name].annotation
    except NameError:  # of another parameter perhaps: a name that is there for type checkers alone
        stated = parameter.empty
    return type(parameter.default) if stated is parameter.empty else stated


def _value(method: Method, name: str, text: str) -> Setting:
    return typed_setting(method.fit, method.parameters[name], text, f"--set {method.name}.{name}")


def typed_setting(function: Callable[..., Any], parameter: inspect.Parameter, text: str, option: str) -> Setting:
    """The text as what the function takes. Raises UsageError, which names the `option` that gave it."""
    stated = _stated(function, parameter)
    several = (get_origin(stated) or stated) is tuple
    try:
        if several and stated is tuple:  # which says nothing of its members: those of the default do
            stated = tuple[type(parameter.default[0]) if parameter.default else str, ...]  # type: ignore[misc]
        given = [one.strip() for one in text.split(",") if one.strip()] if several else text
        value: Setting = TypeAdapter(stated).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsageError(f"{option}={text}: {first['msg']}") from error
    _require_kept(value, option)
    _require_a_number(value, parameter.default, f"{option}={text}")
    return value


def check_stated(function: Callable[..., Any], parameter: inspect.Parameter, value: object, where: str) -> None:
    """Raises UsageError for a value, other than the default, outside of what the function states of this parameter.

    A function that states nothing takes anything.
    """
    if parameter.annotation is parameter.empty or value == parameter.default:
        return
    try:
        TypeAdapter(_stated(function, parameter), config=ConfigDict(arbitrary_types_allowed=True)).validate_python(
            value
        )
    except ValidationError as error:
        raise UsageError(f"{where}: {parameter.name}={value!r}: {error.errors(include_url=False)[0]['msg']}") from error


def _require_a_number(value: object, default: object, given: str) -> None:
    """Raises UsageError for a number that is none, or that leaves nothing of what the default says."""
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, float) and not math.isfinite(one):
            raise UsageError(f"{given}: is no finite number")
        if isinstance(one, int) and abs(one) > LARGEST:
            raise UsageError(f"{given}: is larger than any count")
    never_negative = default is None or (isinstance(default, int | float) and default >= 0)
    if never_negative and isinstance(value, int | float) and value < 0:
        raise UsageError(f"{given}: is negative" + (f"; the default is {default}" if default is not None else ""))
    if type(default) is int and default > 0 and value == 0:
        raise UsageError(f"{given}: leaves nothing to do; the default is {default}")


def _require_kept(value: object, name: str) -> None:
    """Raises UsageError for a value that a result cannot state."""
    for one in value if isinstance(value, tuple) else (value,):
        if type(one) not in (bool, int, float, str, type(None)):
            raise UsageError(
                f"{name}: a setting is a number, a text, yes or no, nothing, or a tuple of these, and not a "
                f"{type(one).__name__}; take such a one and make the other of it in the function"
            )
