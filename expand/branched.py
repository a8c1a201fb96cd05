"""Branches with norms as the factors of a unit, which runs them one by one and adds them up."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from expand.branch import Branch
from expand.running import Product
from expand.units import Factors

__all__ = ["BranchFactors"]


class BranchFactors(Factors):
    """Branches of a convolution, the first of which has its kernel, and its bias, which is added.

    With `preserve` the first starts with the layer's `weight` and the others at zero: in eval mode
    it is the same function.
    """

    linear = False

    @torch.no_grad()
    def __init__(
        self, branches: Sequence[Branch], weight: Tensor, bias: Tensor | None, *, preserve: bool
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        if preserve:
            for branch in branches:
                branch.norm.weight.zero_()
            norm = branches[0].norm
            cast("nn.Conv2d", branches[0].kernel).weight.copy_(weight)
            norm.weight.copy_((cast("Tensor", norm.running_var) + norm.eps).sqrt())

    def forward(self, input: Tensor) -> Tensor:
        """Return the sum of the branches and the bias."""
        total = cast("Tensor", sum(branch(input) for branch in self.branches))
        own = self.bias
        return total if own is None else total + own.view(-1, *[1] * (input.dim() - 2))

    def fold(self, dtype: torch.dtype) -> Product:
        """Compute weight and bias of the layer that this is in eval mode, differentiably."""
        weights, shifts = zip(*(cast("Branch", b).fold(dtype) for b in self.branches), strict=True)
        bias = None if self.bias is None else sum(shifts, start=self.bias.to(dtype))
        return cast("Tensor", sum(weights)), bias

    def reset_parameters(self) -> None:
        """Draw the branches again, as torch does; no bias."""
        for module in self.branches.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        if self.bias is not None:
            nn.init.zeros_(self.bias)
