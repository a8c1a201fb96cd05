"""OREPA and DO-Conv as student transforms: linear, and run folded like ExpandNets."""

from typing import Unpack

from torch import Tensor, nn

from expand.chains import by
from expand.doconv import Overparameters
from expand.initialise import INITS, Init
from expand.layers import geometry
from expand.network import Hold, products
from expand.orepa import Branches
from expand.rewriting import Choice, Rewriting
from expand.units import Factors

__all__ = ["OREPA", "DOConv"]


class _Sum(Rewriting):
    """What both share: they run folded."""

    inits = INITS

    def _obstacle(self, conv: nn.Conv2d) -> str:
        # with a single tap, parts would be copies of it
        return "its kernel is 1" if max(conv.kernel_size) == 1 else ""

    def hold(self, student: nn.Module) -> Hold:
        """Return a context in which the units' weights are computed once: see `expand.Hold`."""
        return Hold(student, self.paths)

    def products(self, student: nn.Module) -> dict[str, Tensor]:
        """Return the compact weights and biases of the units by name, differentiably."""
        return products(student, self.paths)


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
