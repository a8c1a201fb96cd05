"""The points at which a loss landscape is evaluated, and the results."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

__all__ = ["Landscape", "LandscapeGrid", "Landscapes"]

Landscape = Mapping[str, Any]
"""Of one network: "loss" and "error" at all points of a grid, in order, None if not finite; the
number of "images", of its "parameters", and of those that are "moved"."""

Landscapes = Mapping[str, Landscape]
"""Of one run: of its "compact" network and of the "trained" one, which may be the same."""


@dataclass(frozen=True)
class LandscapeGrid:
    """At which points a landscape is evaluated, and how; see `analyze_landscape`."""

    dims: Literal[1, 2] = 1
    points: int = 25
    span: float = 1.0
    images: int = 1000
    batchnorm: Literal["fixed", "refit"] = "fixed"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points < 3 or not self.points % 2:
            raise ValueError(
                f"--points {self.points}: must be an odd number of 3 or more, so that the middle "
                "point is the network itself"
            )
        if self.images < 1 or not (0 < self.span < float("inf")):
            raise ValueError(
                f"--images {self.images}, --span {self.span}: both must be more than 0"
            )

    @property
    def line(self) -> list[float]:
        """The steps along one direction, 0 in the middle."""
        half = self.points // 2
        return [self.span * step / half for step in range(-half, half + 1)]

    @property
    def places(self) -> list[tuple[float, ...]]:
        """All points; the last direction varies fastest."""
        return list(product(self.line, repeat=self.dims))
