"""The three strategies: which factors a linear layer becomes (ExpandNets paper, section 2).

m: input channels, n: output channels, r: expansion rate. Widths inside the chain are multiples
of the layer's groups, so that each group of the layer is a chain of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from expand.settings import Settings

__all__ = ["Geometry", "Strategy", "by", "chain", "no_identity", "obstacle"]

Strategy = Literal["fc", "cl", "ck"]


@dataclass(frozen=True)
class Geometry:
    """A linear layer: channels, kernel (empty: fully-connected), groups, if there is a bias."""

    inputs: int
    outputs: int
    kernel: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False


def obstacle(geometry: Geometry, strategy: Strategy) -> str:
    """Say why `strategy` cannot represent every such layer; empty where it can."""
    if strategy == "ck":
        if any(size % 2 == 0 for size in geometry.kernel):
            return f"CK needs odd kernel sizes, not {by(geometry.kernel)}"
        if max(geometry.kernel) <= 3:
            return f"CK needs a kernel above 3, not {by(geometry.kernel)}"
    return ""


def no_identity(geometry: Geometry) -> str:
    """Say why a layer's input cannot be added to its output; empty where it can."""
    if geometry.inputs != geometry.outputs:
        return f"{geometry.inputs} inputs, {geometry.outputs} outputs"
    even = any(size % 2 == 0 for size in geometry.kernel)
    return f"a kernel of {by(geometry.kernel)} has no centre" if even else ""


def chain(geometry: Geometry, strategy: Strategy, settings: Settings) -> tuple[Geometry, ...]:
    """Return the factors of a layer, first to last.

    The first inner width is r m, the later ones r n, or as `settings` say. Raises ValueError for
    widths that do not fit the layer.
    """
    assert not obstacle(geometry, strategy)
    kernels, groups = _kernels(geometry.kernel, strategy), geometry.groups
    widths = settings.widths
    if widths is None:
        first, later = (
            groups * max(1, round(settings.rate * channels / groups))
            for channels in (geometry.inputs, geometry.outputs)
        )
        first = geometry.inputs if settings.keep_input else first
        widths = [first, *[later] * (len(kernels) - 2)]
    _check_widths(widths, len(kernels) - 1, groups, strategy)
    grouped = [groups] * len(kernels)
    depthwise = groups == geometry.inputs == geometry.outputs > 1 and len({*widths}) == 1
    if strategy == "cl" and settings.depthwise == "channelwise" and depthwise:
        grouped[1] = widths[0]
    ends = [geometry.inputs, *widths, geometry.outputs]
    biased = [geometry.bias and settings.biases == "all"] * (len(kernels) - 1) + [geometry.bias]
    return tuple(map(Geometry, ends[:-1], ends[1:], kernels, grouped, biased))


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


def by(sizes: Sequence[int]) -> str:
    """Write a kernel as `3x3`."""
    return "x".join(map(str, sizes))
