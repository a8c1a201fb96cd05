"""The teacher's output for a view as a row. B: batch, C: classes, W: bytes of a row."""

from dataclasses import dataclass
from math import log, prod
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Dtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class Whole:
    """Every value of an output of `shape` (without the batch), rounded to `dtype`.

    `str()` of a codec is what a row holds: "10", "128 x 4 x 4", "top 5 of 1,000".
    """

    shape: tuple[int, ...]
    dtype: Dtype

    @property
    def width(self) -> int:
        """W, the bytes of a row."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def encode(self, values: Tensor) -> NDArray[np.uint8]:
        """Return rows [B, W] of values [B, *shape]; ValueError if `dtype` cannot hold them."""
        return _bytes(_rounded(values, self.dtype))

    def decode(self, rows: NDArray[np.uint8]) -> Tensor:
        """Return the rounded values, float32 [B, *shape], of rows [B, W]."""
        return _float(rows, self.dtype).view(len(rows), *self.shape)

    def __str__(self) -> str:
        return " x ".join(f"{size:,}" for size in self.shape)


@dataclass(frozen=True)
class TopK:
    """The `top` largest of `classes` logits, and one value that stands for all others.

    That value is log((sum of exp of the other logits) / (C - top)): so the softmax at temperature 1
    gives the top classes, and the others together, their own mass, up to rounding to `dtype`. At
    another temperature it is an approximation. ValueError unless 0 < top < classes.
    """

    classes: int
    top: int
    dtype: Dtype

    def __post_init__(self) -> None:
        if not 0 < self.top < self.classes:
            use = f"use {self.classes - 1} or fewer, or null to keep them all"
            raise ValueError(f"{self.top} of {self.classes} logits: {use}")

    @property
    def width(self) -> int:
        """W, the bytes of a row."""
        return self._split + self.top * self._place.itemsize

    def encode(self, values: Tensor) -> NDArray[np.uint8]:
        """Return rows [B, W] of logits [B, C]: the top, the value for the others, the places."""
        top, places = values.float().topk(self.top, dim=1)
        others = values.float().scatter(1, places, -torch.inf)
        rest = others.logsumexp(1, keepdim=True) - log(self.classes - self.top)
        numbers = _rounded(torch.cat((top, rest), dim=1), self.dtype)
        where = places.cpu().numpy().astype(self._place)
        return np.concatenate((_bytes(numbers), where.view(np.uint8)), axis=1)

    def decode(self, rows: NDArray[np.uint8]) -> Tensor:
        """Return float32 logits [B, C] of rows [B, W]."""
        numbers = _float(np.ascontiguousarray(rows[:, : self._split]), self.dtype)
        where = np.ascontiguousarray(rows[:, self._split :]).view(self._place)
        places = torch.from_numpy(where.astype(np.int64))
        logits = numbers[:, self.top :].repeat(1, self.classes)
        return logits.scatter_(1, places, numbers[:, : self.top])

    @property
    def _split(self) -> int:
        return (self.top + 1) * np.dtype(self.dtype).itemsize

    @property
    def _place(self) -> np.dtype:
        return np.dtype(np.uint16 if self.classes <= 2**16 else np.uint32)

    def __str__(self) -> str:
        return f"top {self.top:,} of {self.classes:,}"


Codec = Whole | TopK


def _rounded(values: Tensor, dtype: Dtype) -> Tensor:
    if values.isnan().any():
        raise ValueError("contains NaN: check the teacher's weights, input and precision")
    rounded = values.to(getattr(torch, dtype))
    if (rounded.isinf() & values.isfinite()).any():
        largest = values[values.isfinite()].abs().max().item()
        raise ValueError(f"{largest:.3g} is beyond {dtype}'s range: set `dtype: float32`")
    return rounded


def _bytes(values: Tensor) -> NDArray[np.uint8]:
    return values.cpu().reshape(len(values), -1).contiguous().numpy().view(np.uint8)


def _float(rows: NDArray[np.uint8], dtype: Dtype) -> Tensor:
    return torch.from_numpy(rows.view(dtype)).float()
