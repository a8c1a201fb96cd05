"""A component's arguments, held against the signature and annotations of its factory."""

import copy
import inspect
import json
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from kdx.recipe.wording import explain, show, unknown

__all__ = ["check", "fill"]

_PROVIDED = {
    "network": frozenset({"num_classes", "in_channels", "image_size", "anchors"}),
    "loss": frozenset({"num_classes", "in_channels", "image_size", "anchors"}),
    "optimizer": frozenset({"params"}),
    "transform": frozenset({"input_shape"}),
}
"""What kdx itself gives to a factory of each kind, where its signature names it."""

_LARGEST_RATE = 1e30


def check(
    factory: Any, kind: str, arguments: Mapping[str, Any], *, reserved: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with `arguments`: the argument's name, and a message.

    `reserved` are the keys of the section that never reach the factory.
    """
    parameters, takes_any = _signature(factory)
    provided = _PROVIDED.get(kind, frozenset())
    names = set(parameters) - set(reserved)
    if kind == "optimizer":
        names -= provided
        yield from _check_rate(arguments)
    for name in arguments:
        if name not in names and not takes_any:
            yield name, f"unknown argument.{unknown(name, names | set(reserved))}"
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in provided and name not in arguments:
            yield name, _missing(parameter, reserved)
    for name, adapter in _adapters(factory, arguments).items():
        if problem := _mismatch(adapter, arguments[name]):
            yield name, problem


def fill(factory: Any, arguments: Mapping[str, Any], provided: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments for a call of `factory`.

    Of `provided`, what the signature names and `arguments` does not set. Values are converted
    to what the annotations promise (a list to a tuple, a string to a Path), and are new objects
    on every call. ValueError where an argument is in neither: `anchors`, where there are no boxes.
    """
    parameters, _ = _signature(factory)
    filled = {name: v for name, v in provided.items() if name in parameters}
    adapters = _adapters(factory, arguments)
    for name, value in arguments.items():
        adapter = adapters.get(name)
        converted = _convert(adapter, value) if adapter else copy.deepcopy(value)
        filled[name] = converted
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in filled:
            raise ValueError(f"{name} is missing: the task of the data does not bring it")
    return filled


def _signature(factory: Any) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return the parameters of `factory` and whether it takes any keyword."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # written in C, without a signature
        return {}, True
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = {
        parameter.name: parameter for parameter in parameters if parameter.kind not in variadic
    }
    options = {
        name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        for name in _options(_hints(factory))
    }
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters) and not options
    return named | options, takes_any


def _missing(parameter: inspect.Parameter, reserved: Collection[str]) -> str:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return "the factory takes it by position only, which a recipe cannot give"
    if parameter.name in reserved:
        return "the factory needs it, but kdx keeps this key for itself: rename the parameter"
    return "is missing"


def _check_rate(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "lr" not in arguments:
        yield "lr", "is missing: the learning rate"
        return
    rate = arguments["lr"]
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        yield "lr", f"{show(rate)} is not a number"
    elif not 0 < rate <= _LARGEST_RATE:
        yield "lr", f"{show(rate)} should be greater than 0, and at most {_LARGEST_RATE:g}"


def _adapters(factory: Any, arguments: Mapping[str, Any]) -> dict[str, TypeAdapter[Any]]:
    """Return a validator for each argument whose annotation pydantic understands."""
    hints = _hints(factory)
    hints = hints | _options(hints)
    adapters = {}
    for name in filter(hints.__contains__, arguments):
        try:
            adapters[name] = TypeAdapter(hints[name], config=ConfigDict(allow_inf_nan=False))
        except Exception:  # not a type of data, such as Tensor: left to the factory
            continue
    return adapters


def _hints(factory: Any) -> dict[str, Any]:
    annotated = factory.__init__ if isinstance(factory, type) else factory
    try:
        return typing.get_type_hints(annotated, include_extras=True)
    except Exception:  # names that only a type checker knows: nothing to check against
        return {}


def _options(hints: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that `**options: Unpack[SomeTypedDict]` stands for, with their types."""
    unpacked = [hint for hint in hints.values() if typing.get_origin(hint) is typing.Unpack]
    return {
        name: hint
        for each in unpacked
        for name, hint in typing.get_type_hints(typing.get_args(each)[0]).items()
    }


def _mismatch(adapter: TypeAdapter[Any], value: Any) -> str | None:
    try:
        _convert(adapter, value)
    except ValidationError as error:
        return ", or ".join(dict.fromkeys(explain(each) for each in error.errors()))
    return None


def _convert(adapter: TypeAdapter[Any], value: Any) -> Any:
    # As JSON, where strict means that "4" is no number, but a list may be a tuple.
    return adapter.validate_json(json.dumps(value), strict=True)
