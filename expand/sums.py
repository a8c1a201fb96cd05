"""OREPA and DO-Conv as student transforms: linear, and run folded like ExpandNets."""

from abc import abstractmethod
from typing import Unpack, cast

from torch import Tensor, nn

from expand.chains import by
from expand.doconv import Overparameters
from expand.initialise import INITS, Init
from expand.layers import geometry
from expand.making import become_unit
from expand.network import Hold, products, units
from expand.orepa import Branches
from expand.rewriting import Choice, Rewriting
from expand.transform import compress
from expand.units import Factors

__all__ = ["OREPA", "DOConv"]


class _Sum(Rewriting):
    """What both share; each says which factors a convolution has."""

    inits = INITS
    action = "is rewritten"
    paths: frozenset[str] | None = None  # of the units, once they are made

    @abstractmethod
    def _factors(self, conv: nn.Conv2d, init: Init) -> Factors:
        """Return new factors for a convolution, with their first values."""

    def _obstacle(self, conv: nn.Conv2d) -> str:
        # with a single tap, parts would be copies of it
        return "its kernel is 1" if max(conv.kernel_size) == 1 else ""

    def _rewrite(self, conv: nn.Conv2d, init: Init) -> None:
        factors = self._factors(conv, init).train(conv.training)
        if factors.bias is not None:
            factors.bias.requires_grad_(cast("nn.Parameter", conv.bias).requires_grad)
        become_unit(conv, factors)

    def apply(self, student: nn.Module) -> nn.Module:
        """Return a copy of the student with units; ValueError if no layer can be one."""
        rewritten, before = super().apply(student), {path for path, _ in units(student)}
        self.paths = frozenset(path for path, _ in units(rewritten)) - before
        return rewritten

    def hold(self, student: nn.Module) -> Hold:
        """Return a context in which the units' weights are computed once: see `expand.Hold`."""
        return Hold(student, self.paths)

    def products(self, student: nn.Module) -> dict[str, Tensor]:
        """Return the compact weights and biases of the units by name, differentiably."""
        return products(student, self.paths)

    def restore(self, student: nn.Module) -> nn.Module:
        """Return the network with one convolution for each unit."""
        return compress(student, self.paths)


class OREPA(_Sum):
    """k + 5 linear branches, folded into one a step: little memory (Hu et al. 2022, OREPA).

    For convolutions with a kernel above 1 and a BatchNorm behind them. `init`: `default` is the
    authors', whose sum is several times as large as the layer's default weight; `scaled` shrinks
    the branches to the size of the layer's; `preserve` keeps a trained layer's function. `select`
    and `exclude` are patterns as of `expand.plan`.
    """

    def _factors(self, conv: nn.Conv2d, init: Init) -> Factors:
        made = Branches(geometry(conv), conv.weight, conv.bias)
        made.start(conv.weight, init)
        return made

    def _parts(self, conv: nn.Conv2d) -> tuple[tuple[str, ...], str]:
        kernel = by(conv.kernel_size)
        return (kernel, "average", "prior", "1x1", f"1x1-{kernel}", "depthwise-1x1"), ""


class DOConv(_Sum):
    """k behind a depthwise k of each input, folded: little memory (Cao et al. 2020, DO-Conv).

    For convolutions with a kernel above 1. It starts as the layer, trained or not. `select` and
    `exclude` are patterns as of `expand.plan`.
    """

    def __init__(self, **choice: Unpack[Choice]) -> None:
        super().__init__(**choice)

    def _factors(self, conv: nn.Conv2d, init: Init) -> Factors:
        return Overparameters(geometry(conv), conv.weight, conv.bias)

    def _parts(self, conv: nn.Conv2d) -> tuple[tuple[str, ...], str]:
        return (f"depthwise {by(conv.kernel_size)} - {by(conv.kernel_size)}",), ""
