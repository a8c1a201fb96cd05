"""The contract that each kind of component has to meet (`kdx.protocols`)."""

import inspect
import typing
from collections.abc import Callable
from types import UnionType
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from kdx.protocols import ImageData, StudentTransform, Tracker


class Kind(NamedTuple):
    """What a factory of the kind returns, in words, as a type, and as a check of a class."""

    words: str
    contract: Any
    meets: Callable[[type], bool]


def lack(factory: Any, kind: str, *, annotated: bool = False) -> str | None:
    """Return why `factory` cannot make a `kind`, None if it can as far as can be seen.

    A class is judged by its methods, a function by its return annotation. A function without one
    passes, unless it has to be `annotated`.
    """
    words, contract, meets = KINDS[kind]
    if not callable(factory):
        return f"it is {_a(type(factory))}, which cannot be called"
    if factory is contract:
        return "it is the base class, not an implementation"
    if isinstance(factory, type):
        return None if meets(factory) else f"{_a(factory)} is not {words}"
    if (returned := _returned(factory)) is Any:
        return "it has no return annotation" if annotated else None
    met = all(isinstance(made, type) and meets(made) for made in _members(returned))
    return None if met else f"it returns {_a(returned)}, not {words}"


def lack_built(built: Any, kind: str) -> str | None:
    """Return why `built`, which a factory returned, is not of `kind`, None if it is."""
    words, contract, _ = KINDS[kind]
    return None if isinstance(built, contract) else f"it returned {_a(type(built))}, not {words}"


def _is_network(made: type) -> bool:
    return issubclass(made, nn.Module) and _takes(made.forward, 1)


def _is_loss(made: type) -> bool:
    if made is nn.Module:  # its own forward takes anything, to refuse it
        return False
    method = made.forward if issubclass(made, nn.Module) else _method(made, "__call__")
    return _takes(method, 3, "indices", "epoch") and _returned(method) not in (int, float)


def _has(**arity: int) -> Callable[[type], bool]:
    """Return a check for methods that take so many positional arguments."""
    return lambda made: all(_takes(_method(made, name), n) for name, n in arity.items())


def _is_augmentation(made: type) -> bool:
    if not issubclass(made, nn.Module):
        return _takes(_method(made, "__call__"), 1)
    from torchvision.transforms.v2 import Transform  # here: it takes long to import

    return issubclass(made, Transform)


def _is_schedule(made: type) -> bool:
    method = _method(made, "__call__")
    numeric = not issubclass(made, nn.Module) and _returned(method) is not Tensor
    return numeric and _takes(method, 3)


KINDS = {
    "network": Kind("an nn.Module with forward(images)", nn.Module, _is_network),
    "dataset": Kind("a kdx.protocols.ImageData", ImageData, lambda it: issubclass(it, ImageData)),
    "augmentation": Kind(
        "a torchvision.transforms.v2.Transform or a callable (image) -> image",
        Callable,
        _is_augmentation,
    ),
    "loss": Kind("a callable (student, teacher, target) -> Tensor", Callable, _is_loss),
    "transform": Kind(
        "an object with apply(student), enter(student, phase) and restore(student)",
        StudentTransform,
        _has(apply=1, enter=2, restore=1),
    ),
    "optimizer": Kind("a torch.optim.Optimizer", Optimizer, lambda it: issubclass(it, Optimizer)),
    "schedule": Kind("a callable (step, steps, steps_per_epoch) -> float", Callable, _is_schedule),
    "tracker": Kind(
        "a tracker as accelerate.tracking.GeneralTracker: start, log, finish",
        Tracker,
        _has(start=0, store_init_configuration=1, log=2, finish=0),
    ),
}


def _returned(function: Any) -> Any:
    """Return what `function` is annotated to return, Any if that is unknown."""
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


def _takes(method: Any, count: int, *asked: str) -> bool:
    """Return whether `method` can be called with self and `count` positional arguments.

    It gets by name what it has of the `asked` parameters, too.
    """
    try:
        signature = inspect.signature(method)
        more = {name: None for name in asked if name in signature.parameters}
        signature.bind(*[None] * (count + 1), **more)
    except (TypeError, ValueError):
        return False
    return True


def _a(made: Any) -> str:
    name = made.__name__ if isinstance(made, type) else str(made)
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
