"""The layer with branches: the layer itself with another class, whose branches are added up."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import SupportsIndex, cast

import torch
from torch import Tensor, nn

from expand.branch import Branch

__all__ = ["BranchedLayer", "branch_layer", "branched_layers", "merge_layer"]


class BranchedLayer(nn.Module):
    """Mixed in before the class of a convolution; made by `branch_layer` alone.

    Its own bias, where it has one, is added to the branches.
    """

    branches: Sequence[Branch]  # an nn.ModuleList
    merged_class: type[nn.Module]

    @property
    def weight(self) -> Tensor:
        """The weight that the branches make in eval mode. What is written to it is lost."""
        return self.merge(next(iter(self.branches)).norm.weight.dtype)[0]

    def forward(self, input: Tensor) -> Tensor:
        """Return the sum of the branches."""
        total = sum(branch(input) for branch in self.branches)
        own = cast("Tensor | None", self.bias)
        shape = [-1, *[1] * (input.dim() - 2)]
        return cast("Tensor", total if own is None else total + own.view(shape))

    def merge(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias of the layer that this is in eval mode, differentiably."""
        parts = [branch.fold(dtype) for branch in self.branches]
        own = cast("Tensor | None", self.bias)
        shifts = [bias for _, bias in parts if bias is not None]
        bias = None if own is None else sum(shifts, start=own.to(dtype))
        return cast("Tensor", sum(weight for weight, _ in parts)), bias

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        """Pickle by the layer's class: this one exists in this process alone."""
        return _empty, (self.merged_class,), self.__dict__


def branched_layers(network: nn.Module) -> Iterator[tuple[str, BranchedLayer]]:
    """Yield the path and the layer of every layer with branches in a network."""
    for path, module in network.named_modules():
        if isinstance(module, BranchedLayer):
            yield path, module


@torch.no_grad()
def branch_layer(layer: nn.Module, branches: Sequence[Branch], *, preserve: bool) -> None:
    """Give a convolution branches, in place; the first one has its kernel.

    With `preserve` the first has the layer's weight and the others begin at zero: in eval mode it
    is the same function.
    """
    if preserve:
        for branch in branches:
            branch.norm.weight.zero_()
        first, norm = cast("nn.Conv2d", branches[0].kernel), branches[0].norm
        first.weight.copy_(cast("Tensor", layer.weight))
        norm.weight.copy_((cast("Tensor", norm.running_var) + norm.eps).sqrt())
    layer._parameters["weight"] = None
    layer.__class__ = _class_of(type(layer))
    layer.branches = nn.ModuleList(branches)
    layer.branches.train(layer.training)


@torch.no_grad()
def merge_layer(layer: BranchedLayer) -> None:
    """Turn a layer with branches back into the layer it was, in place; computed in float64."""
    like = layer.branches[0].norm.weight
    device, dtype = like.device, like.dtype
    trained = any(p.requires_grad for p in cast("nn.ModuleList", layer.branches).parameters())
    if device.type != "meta":
        layer.to("cpu")  # not every device has float64
    weight, bias = layer.merge(torch.float64)
    del layer.branches
    cast("nn.Module", layer).__class__ = layer.merged_class
    layer._parameters["weight"] = nn.Parameter(weight.to(dtype), requires_grad=trained)
    if bias is not None:
        cast("Tensor", layer.bias).copy_(bias)
    layer.to(device)


@cache
def _class_of(cls: type[nn.Module]) -> type[nn.Module]:
    own = {"__module__": cls.__module__, "merged_class": cls}
    return type(f"Branched{cls.__name__}", (BranchedLayer, cls), own)


def _empty(cls: type[nn.Module]) -> nn.Module:
    """A layer of class `cls` with branches whose attributes are still to come, for unpickling."""
    branched = _class_of(cls)
    return branched.__new__(branched)
