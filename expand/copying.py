"""Copies of networks, also of those that keep a tensor of their last forward pass."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["copied"]

M = TypeVar("M", bound=nn.Module)


def copied(network: M) -> M:
    """Return a deep copy; a tensor inside a graph is copied by its value, without the graph.

    `torch.nn.utils.weight_norm` and `spectral_norm` leave such tensors, and so do modules that
    keep a tensor of their last forward pass.
    """
    with _WithoutGraph():
        return copy.deepcopy(network)


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
