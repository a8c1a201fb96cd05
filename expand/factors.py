"""What a layer's weight is computed from: a chain of layers, or parameters of another kind."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from expand.algebra import cheapest_order, identity_weight, regroup
from expand.folding import fold, fold_once
from expand.running import Product

__all__ = ["Chain", "Factors", "own_bias"]


class Factors(nn.Module):
    """Parameters that a layer's weight is computed from, with its bias; abstract.

    Those that are not `linear` are that weight in eval mode only: they run by their `forward`.
    """

    linear: ClassVar[bool] = True
    bias: nn.Parameter | None

    @property
    def has_bias(self) -> bool:
        """Whether the layer has a bias."""
        return self.bias is not None

    @abstractmethod
    def fold(self, dtype: torch.dtype) -> Product:
        """Compute the layer's weight and bias in `dtype`, differentiably."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw the parameters again."""


def own_bias(layer: nn.Module) -> nn.Parameter | None:
    """Return a copy of a layer's bias, frozen where that is."""
    bias = cast("nn.Parameter | None", layer.bias)
    return bias if bias is None else nn.Parameter(bias.detach().clone(), bias.requires_grad)


class Chain(Factors, nn.ModuleList):
    """Linear layers one behind the other, as of an ExpandNet.

    `identity`: the layer's input is added to what they make of it.
    """

    def __init__(self, layers: Iterable[nn.Module] = (), *, identity: bool = False) -> None:
        super().__init__(layers)
        self.identity = identity
        shapes = []
        for each in self:
            outputs, width, *kernel = cast("Tensor", each.weight).shape
            shapes.append((outputs, width * _groups(each) // _groups(self[0]), kernel))
        _, self.order = cheapest_order(shapes) if shapes else (0, 0)

    @property
    def has_bias(self) -> bool:
        """Whether the layer has a bias."""
        return self[-1].bias is not None

    def fold(self, dtype: torch.dtype) -> Product:
        """Multiply the layers in `dtype`, as one node of the graph where nothing looks into it."""
        groups = _groups(self[0])
        weights: list[Tensor] = []
        biases: list[Tensor | None] = []
        for each in cast("Iterable[nn.Linear]", self):
            weights.append(regroup(each.weight.to(dtype), _groups(each), groups))
            biases.append(None if each.bias is None else each.bias.to(dtype))
        way = fold if _sees_through() else fold_once
        weight, bias = way(weights, biases, groups=groups, order=self.order)
        return weight + identity_weight(weight) if self.identity else weight, bias

    def reset_parameters(self) -> None:
        """Draw every layer again, as torch initialises one of its shape."""
        for each in cast("Iterable[nn.Linear]", self):
            each.reset_parameters()


def _groups(layer: nn.Module) -> int:
    return cast("int", getattr(layer, "groups", 1))


def _sees_through() -> bool:
    """Whether torch.compile, torch.func or forward-mode differentiation look at operations."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    return forward_ad._current_level >= 0
