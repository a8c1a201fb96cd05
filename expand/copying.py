"""Copies of networks, also of those that keep a tensor of their last forward pass.

As kdx/util/copies.py, which names what cannot be copied: neither package imports the other.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

__all__ = ["copied"]

M = TypeVar("M", bound=nn.Module)


def copied(network: M) -> M:
    """Return a deep copy; a tensor inside a graph is copied by its value, without the graph.

    `torch.nn.utils.weight_norm` and `spectral_norm` leave such tensors, and so do modules that
    keep a tensor of their last forward pass. Parametrisations can be removed from the copy, and the
    network keeps its own.
    """
    with _WithoutGraph():
        copied = copy.deepcopy(network)
    _own_classes(copied)
    return copied


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
