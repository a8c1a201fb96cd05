"""Blocks of branches with BatchNorms: RepVGG, ACNet, DBB, MobileOne, as student transforms.

Each makes a convolution a sum of branches in training, and one convolution again in the end. They
are not linear in training, since each branch has a norm of its own: they run branch by branch, and
cost memory and time accordingly, which their plans say.

I, O: input and output channels, k: the layer's kernel.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

from torch import nn

from expand.branch import Branch, central
from expand.branched import BranchedLayer, Init, branch_layer, branched_layers, merge_layer
from expand.copying import copied
from expand.costs import Calls, calls
from expand.layers import Site, linear_layers, shared_weights, unfit
from expand.selection import check_patterns, patterns, unselected
from expand.settings import check
from expand.table import table
from expand.units import CONVOLUTIONS, is_chainable

__all__ = ["DBB", "ACNet", "BlockPlan", "BlockRow", "MobileOne", "RepVGG"]

Branches = Mapping[str, Branch]


@dataclass(frozen=True)
class BlockRow:
    """A layer and its branches, or the `reason` why it stays as it is; `without` of a branch.

    `parameters` and `cost` are before and after: numbers, multiply-adds of a forward pass a sample
    (None if unknown). `kept` are the numbers a sample that the branches' norms keep for the
    backward pass.
    """

    path: str
    layer: str
    branches: tuple[str, ...] = ()
    without: str = ""
    reason: str = ""
    parameters: tuple[int, int] = (0, 0)
    cost: tuple[int, int] | None = None
    kept: int = 0


@dataclass(frozen=True)
class BlockPlan:
    """What a transform does to each linear layer. `str(plan)` is a table."""

    rows: tuple[BlockRow, ...]
    costs: bool

    def __str__(self) -> str:
        costs = ("multiply-adds", "in training", "kept") if self.costs else ()
        lines = [("path", "layer", "branches", "parameters", "in training", *costs)]
        lines += [self._line(row) for row in self.rows]
        text = table(lines, right=range(3, 8))
        if not self.costs:
            return text
        return (
            f"{text}\nmultiply-adds of a forward pass and numbers kept for the backward, a sample"
        )

    def _line(self, row: BlockRow) -> tuple[str, ...]:
        made = " + ".join(row.branches) or f"- ({row.reason})"
        without = f" (no {row.without})" if row.without else ""
        figures = [f"{n:,}" for n in (*row.parameters, *(row.cost or ()), row.kept)]
        blank = [""] * (3 if self.costs else 0)
        figures = figures[: len(blank) + 2] if row.cost else [*figures[:2], *blank]
        return row.path, row.layer, made + without, *figures


class _Block(ABC):
    """What the four transforms share; each says which branches a convolution has."""

    pointwise = False  # whether layers with a kernel of 1 are rewritten

    def __init__(
        self,
        *,
        init: Init = "default",
        select: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        check("init", init, ("default", "preserve"))
        self.init: Init = init
        self.select, self.exclude = patterns(select), patterns(exclude)
        self.input_shape = input_shape

    @abstractmethod
    def branches(self, conv: nn.Conv2d) -> tuple[Branches, str]:
        """Return the branches by name, that of the kernel first, and which are impossible."""

    def plan(self, student: nn.Module) -> BlockPlan:
        """Return what `apply` would do, printable."""
        sites, reasons = self._sites(student)
        known = [site.path for site in sites if not reasons[site.path]]
        shape = self.input_shape
        seen = calls(student, known, shape) if shape and known else {}
        rows = (self._row(site, reasons[site.path], seen.get(site.path, ())) for site in sites)
        return BlockPlan(tuple(rows), costs=bool(seen))

    def apply(self, student: nn.Module) -> nn.Module:
        """Return a copy of the student with branches; ValueError if no layer can have any."""
        branched = copied(student)
        sites, reasons = self._sites(branched)
        chosen = [site.layer for site in sites if not reasons[site.path]]
        if not chosen:
            raise ValueError(
                f"no layer of {type(student).__name__} has branches:\n{self.plan(student)}"
            )
        for layer in chosen:
            made, _ = self.branches(cast("nn.Conv2d", layer))
            branch_layer(layer, [*made.values()], init=self.init)
        return branched

    def enter(self, student: nn.Module, phase: str) -> None:
        """Raise ValueError: the transform has no phases."""
        raise ValueError(f"phase: {type(self).__name__} has no phase {phase!r}, nor any other")

    def restore(self, student: nn.Module) -> nn.Module:
        """Return the network with one convolution for each sum of branches."""
        network = copied(student)
        for _, layer in [*branched_layers(network)]:
            merge_layer(layer)
        return network

    def _sites(self, student: nn.Module) -> tuple[list[Site], dict[str, str]]:
        """Return the linear layers, and by path why each stays as it is, empty if it does not."""
        inside = [f"{path}." for path, _ in branched_layers(student)]
        sites = [each for each in linear_layers(student) if not each.path.startswith((*inside,))]
        check_patterns([*(self.select or ()), *(self.exclude or ())], sites)
        shared = shared_weights(student)
        return sites, {site.path: self._reason(site, shared) for site in sites}

    def _reason(self, site: Site, shared: set[int]) -> str:
        layer = site.layer
        if left := unselected(site, self.select, self.exclude):
            return left
        if isinstance(layer, BranchedLayer):
            return "it has branches already"
        if not isinstance(layer, CONVOLUTIONS):
            return "not a convolution"
        if unusual := unfit(layer, shared):
            return unusual
        if not is_chainable(type(layer)):
            return f"{type(layer).__name__} has a forward of its own"
        conv = cast("nn.Conv2d", layer)
        if not self.pointwise and max(conv.kernel_size) == 1:
            return "its kernel is 1"
        if taken := [name for name in ("branches", "merged_class") if hasattr(layer, name)]:
            return f"it has a {taken[0]!r} of its own, which branches need"
        made, without = self.branches(_without_values(conv))
        return "" if len(made) > 1 else f"one branch only: no {without}"

    def _row(self, site: Site, reason: str, seen: Calls) -> BlockRow:
        conv = cast("nn.Conv2d", site.layer)
        before = sum(p.numel() for p in conv.parameters())
        positions = sum(prod(output[1:]) for _, output in seen)
        if reason:
            return BlockRow(
                site.path, type(conv).__name__, reason=reason, parameters=(before, before)
            )
        made, without = self.branches(_without_values(conv))
        own = 0 if conv.bias is None else conv.bias.numel()
        after = own + sum(p.numel() for each in made.values() for p in each.parameters())
        before_point = sum(prod(given[1:]) for given, _ in seen)
        adds, kept = 0, 0
        for branch in made.values():
            kept += positions * branch.outputs
            adds += positions * (0 if branch.kernel is None else branch.kernel.weight.numel())
            if branch.point is not None:
                kept += before_point * branch.point.out_channels
                adds += before_point * branch.point.weight.numel()
        cost = (positions * conv.weight.numel(), adds) if seen else None
        alike = Counter(name.split()[0] for name in made)
        names = tuple(name if n == 1 else f"{n} of {name}" for name, n in alike.items())
        return BlockRow(
            site.path, type(conv).__name__, names, without, "", (before, after), cost, kept
        )


class RepVGG(_Block):
    """k + 1x1 + identity, each with a BatchNorm (Ding et al. 2021, RepVGG, 3.2).

    The identity where I = O and the stride is 1. Layers with a kernel of 1 and fully-connected
    ones stay as they are. `select` and `exclude` are patterns as of `expand.plan`; `init: preserve`
    keeps the function that a trained student has in eval mode.
    """

    def branches(self, conv: nn.Conv2d) -> tuple[Branches, str]:
        """Return the branches of a convolution, and which are impossible."""
        made = {_name(conv): _kernel(conv), "1x1": _point(conv)}
        return _with_identity(conv, made)


class ACNet(_Block):
    """kxk + 1xk + kx1 in the middle, each with a BatchNorm (Ding et al. 2019, ACNet, 3.2).

    Of two-dimensional convolutions. Arguments as of `RepVGG`.
    """

    def branches(self, conv: nn.Conv2d) -> tuple[Branches, str]:
        """Return the branches of a convolution, and which are impossible."""
        made = {_name(conv): _kernel(conv)}
        if len(conv.kernel_size) != 2:
            return made, "rows and columns: its kernel has not two dimensions"
        for size in ((1, conv.kernel_size[1]), (conv.kernel_size[0], 1)):
            if size != tuple(conv.kernel_size):
                made["x".join(map(str, size))] = Branch(conv, central(conv.kernel_size, size))
        return made, ""


class DBB(_Block):
    """kxk + 1x1 + 1x1-kxk + 1x1-average, with BatchNorms, after the 1x1s too (Ding et al. 2021).

    "Diverse branch block", Figure 2. As in the paper's code, the 1x1 of 1x1-kxk has I channels and
    begins as the identity; of depthwise layers it has 2 I, and 1x1 and the average's 1x1 are left
    out. Arguments as of `RepVGG`.
    """

    def branches(self, conv: nn.Conv2d) -> tuple[Branches, str]:
        """Return the branches of a convolution, and which are impossible."""
        whole, depthwise = central(conv.kernel_size, conv.kernel_size), _is_depthwise(conv)
        first = Branch(conv, whole, inner=conv.in_channels * (1 + depthwise))
        if not depthwise:
            nn.init.dirac_(cast("nn.Conv2d", first.point).weight, conv.groups)
        name, inner = _name(conv), 0 if depthwise else conv.out_channels
        made = {name: _kernel(conv)}
        if not depthwise:
            made["1x1"] = _point(conv)
        made[f"1x1-{name}"] = first
        if inner or conv.in_channels == conv.out_channels:
            title = "1x1-average" if inner else "average"
            made[title] = Branch(conv, whole, "average", inner=inner)
        return made, "1x1 of a depthwise layer" if depthwise else ""


class MobileOne(_Block):
    """`copies` of k, + 1x1 + identity, each with a BatchNorm (Vasu et al. 2023, 3.2).

    Layers with a kernel of 1 are rewritten too, without the 1x1. The identity where I = O and the
    stride is 1. Other arguments as of `RepVGG`.
    """

    pointwise = True

    def __init__(
        self,
        *,
        copies: int = 4,
        init: Init = "default",
        select: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(init=init, select=select, exclude=exclude, input_shape=input_shape)
        if type(copies) is not int or not 1 <= copies <= 16:
            raise ValueError(f"copies: {copies!r} is not a number from 1 to 16")
        self.copies = copies

    def branches(self, conv: nn.Conv2d) -> tuple[Branches, str]:
        """Return the branches of a convolution, and which are impossible."""
        names = [f"{_name(conv)} {n + 1}" for n in range(self.copies)]
        made = {name: _kernel(conv) for name in names}
        if max(conv.kernel_size) > 1:
            made["1x1"] = _point(conv)
        return _with_identity(conv, made)


def _without_values(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the layer on the meta device: what is made of it takes no memory or random numbers."""
    return copied(conv).to("meta")


def _kernel(conv: nn.Conv2d) -> Branch:
    return Branch(conv, central(conv.kernel_size, conv.kernel_size))


def _point(conv: nn.Conv2d) -> Branch:
    return Branch(conv, central(conv.kernel_size, [1] * len(conv.kernel_size)))


def _with_identity(conv: nn.Conv2d, made: dict[str, Branch]) -> tuple[Branches, str]:
    """Add the identity, or say why it is impossible."""
    if conv.in_channels != conv.out_channels:
        return made, f"identity: {conv.in_channels} inputs, {conv.out_channels} outputs"
    if max(conv.stride) > 1:
        return made, "identity: strided"
    window = central(conv.kernel_size, [1] * len(conv.kernel_size))
    return made | {"identity": Branch(conv, window, "identity")}, ""


def _is_depthwise(conv: nn.Conv2d) -> bool:
    """As in DBB's code: no 1x1 where each output has a group of its own."""
    return conv.groups == conv.out_channels > 1


def _name(conv: nn.Conv2d) -> str:
    return "x".join(map(str, conv.kernel_size))
