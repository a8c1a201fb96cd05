"""The three strategies: which factors a linear layer becomes (ExpandNets paper, section 2).

m: input channels, n: output channels, r: expansion rate. Widths inside the chain are multiples
of the layer's groups, so that each group of the layer is a chain of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

__all__ = [
    "Biases",
    "Depthwise",
    "Factor",
    "Geometry",
    "Strategy",
    "chain",
    "no_identity",
    "obstacle",
]

Strategy = Literal["fc", "cl", "ck"]
Depthwise = Literal["grouped", "channelwise"]
Biases = Literal["all", "last"]


@dataclass(frozen=True)
class Factor:
    """One linear layer of a chain. An empty `kernel` is a fully-connected layer."""

    inputs: int
    outputs: int
    kernel: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False

    @property
    def weights(self) -> int:
        """The numbers in the weight: what the factor multiplies and adds at each position."""
        return self.outputs * (self.inputs // self.groups) * prod(self.kernel)

    @property
    def parameters(self) -> int:
        """The numbers in weight and bias."""
        return self.weights + (self.outputs if self.bias else 0)


@dataclass(frozen=True)
class Geometry:
    """What a strategy needs to know of a layer: m, n, kernel sizes, groups, if there is a bias."""

    inputs: int
    outputs: int
    kernel: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False


def obstacle(geometry: Geometry, strategy: Strategy) -> str | None:
    """Say why `strategy` cannot represent every such layer; None where it can."""
    if strategy == "ck":
        if any(size % 2 == 0 for size in geometry.kernel):
            return f"CK needs odd kernel sizes, not {by(geometry.kernel)}"
        if max(geometry.kernel) <= 3:
            return f"CK needs a kernel above 3, not {by(geometry.kernel)}"
    return None


def no_identity(geometry: Geometry) -> str:
    """Say why a layer's input cannot be added to its output; empty where it can."""
    if geometry.inputs != geometry.outputs:
        return f"{geometry.inputs} inputs, {geometry.outputs} outputs"
    even = any(size % 2 == 0 for size in geometry.kernel)
    return f"a kernel of {by(geometry.kernel)} has no centre" if even else ""


def chain(
    geometry: Geometry,
    strategy: Strategy,
    *,
    rate: float,
    keep_input: bool = False,
    depthwise: Depthwise = "grouped",
    biases: Biases = "all",
    widths: Sequence[int] | None = None,
) -> tuple[Factor, ...]:
    """Return the factors of a layer, first to last.

    The first inner width is r m, the later ones r n; with `keep_input` the first stays m (the
    paper's networks keep the three channels of the image in their first layer); `widths` are the
    inner widths themselves. `depthwise: channelwise` gives the kernel factor of a depthwise layer
    a group per inner channel, as in the paper's ShuffleNetV2. Where the layer has a bias, `biases`
    says which factors have one. Raises ValueError for widths that do not fit the layer.
    """
    assert obstacle(geometry, strategy) is None
    kernels = _kernels(geometry.kernel, strategy)
    if widths is None:
        first = geometry.inputs if keep_input else _width(rate, geometry.inputs, geometry.groups)
        later = _width(rate, geometry.outputs, geometry.groups)
        widths = [first, *[later] * (len(kernels) - 2)]
    _check_widths(widths, len(kernels) - 1, geometry.groups, strategy)
    groups = [geometry.groups] * len(kernels)
    is_depthwise = geometry.groups == geometry.inputs == geometry.outputs > 1
    if strategy == "cl" and depthwise == "channelwise" and is_depthwise and len({*widths}) == 1:
        groups[1] = widths[0]
    ends = [geometry.inputs, *widths, geometry.outputs]
    biased = [geometry.bias and biases == "all"] * (len(kernels) - 1) + [geometry.bias]
    return tuple(map(Factor, ends[:-1], ends[1:], kernels, groups, biased))


def _check_widths(widths: Sequence[int], places: int, groups: int, strategy: Strategy) -> None:
    if len(widths) != places:
        raise ValueError(
            f"widths: {list(widths)} has {len(widths)} values, but the layer's {strategy.upper()} "
            f"chain has {places} inner widths"
        )
    if odd := [width for width in widths if width % groups]:
        raise ValueError(f"widths: {odd[0]} is not a multiple of the layer's {groups} groups")


def _kernels(kernel: tuple[int, ...], strategy: Strategy) -> list[tuple[int, ...]]:
    """FC: three matrices. CL: 1x1, kxk, 1x1. CK: 3s until each dimension is used up, then 1s."""
    if strategy == "fc":
        return [(), (), ()]
    if strategy == "cl":
        point = (1,) * len(kernel)
        return [point, kernel, point]
    steps = [(size - 1) // 2 for size in kernel]
    return [tuple(3 if i < step else 1 for step in steps) for i in range(max(steps))]


def _width(rate: float, channels: int, groups: int) -> int:
    return groups * max(1, round(rate * channels / groups))


def by(sizes: Sequence[int]) -> str:
    """Write a kernel as `3x3`."""
    return "x".join(map(str, sizes))
