"""Where the landscape of a network is looked at, and what is found there."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

__all__ = ["Landscape", "LandscapeGrid", "Landscapes"]

Landscape = Mapping[str, Any]
"""Of one network: "loss" and "error" at all places of a grid, in their order, None where not
finite; how many "images" they are of, its "parameters", and how many of these are "moved"."""

Landscapes = Mapping[str, Landscape]
"""Of one run: of its "compact" network, and of the one as "trained"; these may be the same."""


@dataclass(frozen=True)
class LandscapeGrid:
    """Where a landscape is looked at, and how; see `analyze_landscape`."""

    dims: Literal[1, 2] = 1
    points: int = 25
    span: float = 1.0
    images: int = 1000
    batchnorm: Literal["fixed", "refit"] = "fixed"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points < 3 or not self.points % 2:
            raise ValueError(
                f"--points {self.points}: an odd number from 3 on, so that the network itself is "
                "the one in the middle"
            )
        if self.images < 1 or not (0 < self.span < float("inf")):
            raise ValueError(
                f"--images {self.images}, --span {self.span}: both must be more than 0"
            )

    @property
    def line(self) -> list[float]:
        """The points along one direction, 0 in the middle of them."""
        half = self.points // 2
        return [self.span * step / half for step in range(-half, half + 1)]

    @property
    def places(self) -> list[tuple[float, ...]]:
        """All points, the last direction's running fastest."""
        return list(product(self.line, repeat=self.dims))
