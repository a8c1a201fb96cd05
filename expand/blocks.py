"""Blocks of branches with BatchNorms: RepVGG, ACNet, DBB, MobileOne, as student transforms.

Each makes a convolution a sum of branches in training, and one convolution again in the end. They
are not linear in training, since each branch has a norm of its own: they run branch by branch, and
cost memory and time accordingly, which their plans say.

I, O: input and output channels, k: the layer's kernel.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Literal, Unpack, cast

from torch import nn

from expand.branch import Branch, BranchFactors
from expand.chains import by
from expand.copying import copied
from expand.factors import Factors
from expand.initialise import Init
from expand.planning import LayerPlan
from expand.rewriting import Branched, Choice
from expand.running import is_chainable

__all__ = ["DBB", "ACNet", "MobileOne", "RepVGG"]

Branches = Mapping[str, Branch]


class _Block(Branched):
    """What the four transforms share; each says which branches a convolution has."""

    inits = ("default", "preserve")
    pointwise = False  # whether layers with a kernel of 1 are rewritten

    def __init__(
        self, *, init: Literal["default", "preserve"] = "default", **choice: Unpack[Choice]
    ) -> None:
        super().__init__(init=init, **choice)

    @abstractmethod
    def _branches(self, conv: nn.Conv2d) -> tuple[Branches, str]:
        """Return the branches by name, that of the kernel first, and which are impossible."""

    def _factors(self, layer: nn.Module, row: LayerPlan, init: Init) -> Factors:
        conv, preserve = cast("nn.Conv2d", layer), init == "preserve"
        made, _ = self._branches(conv)
        return BranchFactors(conv, [*made.values()], preserve=preserve)

    def _obstacle(self, conv: nn.Conv2d) -> str:
        if not is_chainable(type(conv)):
            return f"{type(conv).__name__} has a forward of its own"
        if not self.pointwise and max(conv.kernel_size) == 1:
            return "its kernel is 1"
        names, without = self._parts(conv)
        return f"one branch only: no {without}" if names == (by(conv.kernel_size),) else ""

    def _parts(self, conv: nn.Conv2d) -> tuple[tuple[str, ...], str]:
        made, without = self._branches(copied(conv).to("meta"))
        alike = Counter(name.split()[0] for name in made)
        return tuple(name if n == 1 else f"{n} of {name}" for name, n in alike.items()), without


class RepVGG(_Block):
    """k + 1x1 + identity, each with a BatchNorm; runs and stores all three (Ding et al. 2021).

    "RepVGG", 3.2. The identity where I = O and the stride is 1. Layers with a kernel of 1 and
    fully-connected ones stay as they are. `select` and `exclude` are patterns as of `expand.plan`;
    `init: preserve` keeps the function that a trained student has in eval mode.
    """

    def _branches(self, conv: nn.Conv2d) -> tuple[Branches, str]:
        made = {
            by(conv.kernel_size): Branch(conv, conv.kernel_size),
            "1x1": Branch(conv, _ones(conv)),
        }
        return _with_identity(conv, made)


class ACNet(_Block):
    """k + 1xk + kx1, each with a BatchNorm; runs and stores all three (Ding et al. 2019).

    "ACNet", 3.2: the latter in the middle. Of two-dimensional convolutions. Arguments: `RepVGG`'s.
    """

    def _branches(self, conv: nn.Conv2d) -> tuple[Branches, str]:
        made = {by(conv.kernel_size): Branch(conv, conv.kernel_size)}
        if len(conv.kernel_size) != 2:
            return made, "rows and columns: its kernel has not two dimensions"
        for size in ((1, conv.kernel_size[1]), (conv.kernel_size[0], 1)):
            if size != tuple(conv.kernel_size):
                made[by(size)] = Branch(conv, size)
        return made, ""


class DBB(_Block):
    """k + 1x1 + 1x1-k + 1x1-average with 6 BatchNorms; runs and stores all (Ding et al. 2021).

    "Diverse branch block", Figure 2. As in the paper's code, the 1x1 of 1x1-kxk has I channels and
    begins as the identity; of depthwise layers it has 2 I, and 1x1 and the average's 1x1 are left
    out. Arguments as of `RepVGG`.
    """

    def _branches(self, conv: nn.Conv2d) -> tuple[Branches, str]:
        # As in the authors' code: no 1x1 where each output has a group of its own.
        whole, depthwise = conv.kernel_size, conv.groups == conv.out_channels > 1
        first = Branch(conv, whole, inner=conv.in_channels * (1 + depthwise))
        name, inner = by(conv.kernel_size), 0 if depthwise else conv.out_channels
        made = {name: Branch(conv, conv.kernel_size)}
        if not depthwise:
            made["1x1"] = Branch(conv, _ones(conv))
        made[f"1x1-{name}"] = first
        if inner or conv.in_channels == conv.out_channels:
            title = "1x1-average" if inner else "average"
            made[title] = Branch(conv, whole, "average", inner=inner)
        return made, "1x1 of a depthwise layer" if depthwise else ""


class MobileOne(_Block):
    """Copies of k, 1x1, identity, each with a BatchNorm; runs and stores all (Vasu et al. 2023).

    "MobileOne", 3.2. Layers with a kernel of 1 are rewritten too, without the 1x1. The identity
    where I = O and the stride is 1. `copies` of k, from 1 to 16; other arguments: `RepVGG`'s.
    """

    pointwise = True

    def __init__(
        self,
        *,
        copies: int = 4,
        init: Literal["default", "preserve"] = "default",
        **choice: Unpack[Choice],
    ) -> None:
        super().__init__(init=init, **choice)
        if type(copies) is not int or not 1 <= copies <= 16:
            raise ValueError(f"copies: {copies!r} is not a number from 1 to 16")
        self.copies = copies

    def _branches(self, conv: nn.Conv2d) -> tuple[Branches, str]:
        names = [f"{by(conv.kernel_size)} {n + 1}" for n in range(self.copies)]
        made = {name: Branch(conv, conv.kernel_size) for name in names}
        if max(conv.kernel_size) > 1:
            made["1x1"] = Branch(conv, _ones(conv))
        return _with_identity(conv, made)


def _with_identity(conv: nn.Conv2d, made: dict[str, Branch]) -> tuple[Branches, str]:
    """Add the identity, or say why it is impossible."""
    if conv.in_channels != conv.out_channels:
        return made, f"identity: {conv.in_channels} inputs, {conv.out_channels} outputs"
    if max(conv.stride) > 1:
        return made, "identity: strided"
    return made | {"identity": Branch(conv, _ones(conv), "identity")}, ""


def _ones(conv: nn.Conv2d) -> list[int]:
    return [1] * len(conv.kernel_size)
