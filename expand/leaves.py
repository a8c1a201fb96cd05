"""The products of units as leaves of the graph: the network runs on them, factors learn later.

Then gradient accumulation multiplies the factors once a step instead of once a part, and
DistributedDataParallel sends the gradients of the compact weights, which are many times smaller.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from expand.network import units
from expand.units import ExpandedUnit

__all__ = ["Leaves"]


class Leaves(nn.Module):
    """The compact weights and biases of a network's folded units, as parameters.

        leaves = Leaves(model)
        with leaves.held():
            for images, targets in parts:
                loss(model(images), targets).backward()
        optimizer.step()  # the factors have their gradients

    Of the units at `paths` (default: of all) those that run on the product of their factors, of
    which at least one is trained: by the modes and `requires_grad` of now, so make others when
    those change. `replaced` are the names of the parameters and buffers of `model` that they stand
    for; `pairs`, while they are held, each trained leaf with what it stands for, differentiably.
    For DDP wrap a module that holds `model` and these, and let it ignore `replaced`, which must be
    equal on all processes.
    """

    def __init__(self, model: nn.Module, paths: Collection[str] | None = None) -> None:
        super().__init__()
        self.replaced: list[str] = []
        self.pairs: list[tuple[nn.Parameter, Tensor]] = []
        self.products = nn.ParameterList()
        self._units: list[ExpandedUnit] = []
        inside: tuple[str, ...] = ()
        for path, unit in units(model, paths):
            start = f"{path}.factors." if path else "factors."
            if unit.is_folded and unit.is_trained and not path.startswith(inside):
                inside = (*inside, start)  # units in its factors are a part of its product
                self._units.append(unit)
                own = (*unit.factors.named_parameters(), *unit.factors.named_buffers())
                self.replaced += [start + name for name, _ in own]
                with torch.enable_grad():
                    made = unit._fold_now()
                for each in made:
                    if each is not None:
                        leaf = nn.Parameter(each.detach().clone(), each.requires_grad)
                        self.products.append(leaf)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the units run on the leaves; at the end the factors get their gradients.

        Those are added to gradients that are there. The factors must not change inside. After an
        exception they get none. RuntimeError for units that run on leaves already, or no longer on
        their product.
        """
        if any(unit._leaves is not None for unit in self._units):
            raise RuntimeError("a unit runs on a leaf already: hold one set of leaves at a time")
        if not all(unit.is_folded for unit in self._units):
            raise RuntimeError("a unit's mode has changed: make new leaves")
        leaves = iter(self.products)
        try:
            with torch.enable_grad():
                for unit in self._units:
                    weight, bias = unit._fold_now()
                    own = self._leaf(weight, leaves)
                    unit._leaves = own, None if bias is None else self._leaf(bias, leaves)
            yield
            self._pull_back()
        finally:
            self.pairs = []
            for unit in self._units:
                unit._leaves = None
            for leaf in self.products:
                leaf.grad = None

    def _leaf(self, product: Tensor, leaves: Iterator[nn.Parameter]) -> nn.Parameter:
        """Return the next leaf, with the value of the product that it stands for."""
        leaf = next(leaves)
        leaf.data = product.detach()
        if leaf.requires_grad and product.requires_grad:
            self.pairs.append((leaf, product))
        return leaf

    def _pull_back(self) -> None:
        given = [(product, leaf.grad) for leaf, product in self.pairs if leaf.grad is not None]
        if given:
            products, gradients = zip(*given, strict=True)
            torch.autograd.backward(products, gradients)
