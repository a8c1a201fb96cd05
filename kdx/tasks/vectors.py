"""Checks for tasks whose outputs and targets are a vector for each image. N: samples, B: batch."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from kdx.protocols import ImageSource
from kdx.tasks.classification import shape_of


@runtime_checkable
class VectorSource(Protocol):
    """Images with vectors: `targets` [N, K] (float32), as those of `kdx.data.VectorImages`."""

    targets: Tensor


def check_vector(output: object, images: Tensor, count: int, what: str) -> None:
    """Raise ValueError unless `output` is [B, count]."""
    wanted = [len(images), count]
    if not isinstance(output, Tensor) or list(output.shape) != wanted:
        found = f"its output for {len(images)} images is {shape_of(output)}"
        raise ValueError(f"{found}, not {wanted}, one for each of the data's {count} {what}")


def check_targets(
    source: ImageSource, count: int, fine: Callable[[Tensor], Tensor], wanted: str
) -> None:
    """Raise ValueError unless targets are [N, count], naming the first value that is not `fine`."""
    kind = type(source).__name__
    if not isinstance(source, VectorSource):
        raise ValueError(f"{kind} has no `targets` [N, {count}]: use kdx.data.VectorImages")
    if list(source.targets.shape) != [len(source), count]:
        shape = list(source.targets.shape)
        raise ValueError(f"{kind}: targets are {shape}, not [{len(source)}, {count}]")
    bad = fine(source.targets).logical_not().nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        found = f"target {column} is {float(source.targets[row, column]):g}, not {wanted}"
        raise ValueError(f"{source.name(row)}: {found}; {len(bad):,} targets are wrong")
