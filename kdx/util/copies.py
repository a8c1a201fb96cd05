"""Copies of networks, also of those that keep a tensor of their last forward pass."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from kdx.util.errors import reason

M = TypeVar("M", bound=nn.Module)


def copied(network: M, memo: dict[int, Any] | None = None) -> M:
    """Return a deep copy; a tensor inside a graph is copied by its value, without the graph.

    `memo` is as of `copy.deepcopy`: what stands for objects that are not to be copied, by `id`.

    `torch.nn.utils.weight_norm` and `spectral_norm` leave such tensors, and so do modules that
    keep a tensor of their last forward pass. Parametrisations (`torch.nn.utils.parametrize`) can be
    removed from the copy, and the network keeps its own. Raises ValueError that names the module
    which cannot be copied.
    """
    try:
        with _WithoutGraph():
            made = copy.deepcopy(network, memo)
        _own_classes(made)
        return made
    except Exception as error:  # an attribute may be anything
        kind, inside = type(network).__name__, _culprit(network)
        raise ValueError(
            f"{kind} cannot be copied: {inside}: {reason(error)}. Keep no locks, generators, open "
            "files or the like in it, or give it a __deepcopy__"
        ) from error


def _own_classes(network: nn.Module) -> None:
    """Give each parametrised module in a copy a class of its own, in place.

    `torch.nn.utils.parametrize` makes a class for such a module, which its deep copies share, and
    takes the weight's property from it when it is removed: from all of them.
    """
    for module in network.modules():
        if parametrize.is_parametrized(module):
            cls = type(module)
            own = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
            module.__class__ = cast("type[nn.Module]", type(cls.__name__, cls.__bases__, own))


class _WithoutGraph(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))


def _culprit(network: nn.Module) -> str:
    """Name the innermost module that cannot be copied."""
    for path, module in reversed([*network.named_modules()]):
        try:
            with _WithoutGraph():
                copy.deepcopy(module)
        except Exception:  # as above
            return f"{path or 'the network itself'} ({type(module).__name__})"
    return f"the network itself ({type(network).__name__})"
