"""The contract that each kind of component has to meet (`kdx.protocols`)."""

import inspect
import typing
from collections.abc import Callable
from types import UnionType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from kdx.protocols import ImageData, StudentTransform

__all__ = ["lack", "lack_built"]


def lack(factory: Any, kind: str, *, annotated: bool = False) -> str | None:
    """Return why `factory` cannot make a `kind`, None where it can as far as can be seen.

    A class is judged by its methods, a function by what it is annotated to return. One that does
    not say passes, unless it has to be `annotated`.
    """
    if not callable(factory):
        return f"it is {_a(type(factory))}, which cannot be called"
    meets, words = _CONTRACTS[kind]
    if factory is _BUILT[kind][0]:
        return "it is what others have to be, and nothing of its own"
    if isinstance(factory, type):
        return None if meets(factory) else words
    returned = _returned(factory)
    if returned is Any:
        return "it does not say what it returns" if annotated else None
    if all(isinstance(made, type) and meets(made) for made in _members(returned)):
        return None
    return f"it returns {_a(returned)}: {words}"


def lack_built(built: Any, kind: str) -> str | None:
    """Return why `built`, which a factory returned, is not of `kind`, None where it is."""
    contract, words = _BUILT[kind]
    return None if isinstance(built, contract) else f"it returned {_a(type(built))}, not {words}"


def _is_network(made: type) -> bool:
    return issubclass(made, nn.Module) and _takes(made.forward, 1)


def _is_loss(made: type) -> bool:
    if made is nn.Module:  # its own forward takes anything, to refuse it
        return False
    method = made.forward if issubclass(made, nn.Module) else _method(made, "__call__")
    return _takes(method, 3) and _returned(method) not in (int, float)


def _is_transform(made: type) -> bool:
    arity = {"apply": 1, "enter": 2, "restore": 1}
    return all(_takes(_method(made, name), count) for name, count in arity.items())


def _is_schedule(made: type) -> bool:
    method = _method(made, "__call__")
    numeric = not issubclass(made, nn.Module) and _returned(method) is not Tensor
    return numeric and _takes(method, 3)


_CONTRACTS: dict[str, tuple[Callable[[type], bool], str]] = {
    "network": (_is_network, "it is no nn.Module that can be called with (images)"),
    "dataset": (lambda made: issubclass(made, ImageData), "it is no kdx.protocols.ImageData"),
    "loss": (_is_loss, "its instances do not answer (student, teacher, target) with a tensor"),
    "transform": (
        _is_transform,
        "it needs the methods apply(student), enter(student, phase) and restore(student)",
    ),
    "optimizer": (
        lambda made: issubclass(made, Optimizer),
        "it is no subclass of torch.optim.Optimizer",
    ),
    "schedule": (
        _is_schedule,
        "its instances do not answer (step, steps, steps_per_epoch) with a number",
    ),
}

_BUILT: dict[str, tuple[Any, str]] = {
    "network": (nn.Module, "an nn.Module"),
    "dataset": (ImageData, "a kdx.protocols.ImageData"),
    "loss": (Callable, "something to call"),
    "transform": (StudentTransform, "an object with apply, enter and restore"),
    "optimizer": (Optimizer, "a torch.optim.Optimizer"),
    "schedule": (Callable, "something to call"),
}


def _returned(function: Any) -> Any:
    """Return what `function` is annotated to return, Any where that is unknown."""
    try:
        return typing.get_type_hints(function).get("return", Any)
    except Exception:  # names that only a type checker knows
        return Any


def _members(annotation: Any) -> list[Any]:
    """Return the classes that an annotation stands for: of `A[...] | None`, A and NoneType."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, UnionType):
        return [made for each in typing.get_args(annotation) for made in _members(each)]
    return [origin or annotation]


def _method(made: type, name: str) -> Any:
    # Looked up along the classes: getattr would find type.__call__ on every class.
    return next((vars(base)[name] for base in made.__mro__ if name in vars(base)), None)


def _takes(method: Any, count: int) -> bool:
    """Return whether `method` can be called with self and `count` positional arguments."""
    try:
        inspect.signature(method).bind(*[None] * (count + 1))
    except (TypeError, ValueError):
        return False
    return True


def _a(made: Any) -> str:
    name = made.__name__ if isinstance(made, type) else str(made)
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
