"""Fake quantisation: numbers rounded as in int8 and kept as floats (Jacob et al. 2018, 3).

The gradient passes the rounding as if it were not there, and is zero where a number was clipped
(straight-through estimator; Krishnamoorthi 2018, 2.4). Rounding is to the nearest, ties to even, as
in ONNX Runtime.
"""

import torch
from torch import Tensor

__all__ = ["fake_input", "fake_weight"]

LEVELS = 127  # of a weight on each side of zero: -128 is left out, so that the grid is symmetric
STEPS = 255  # between the ends of an input's range
LEAST = 1e-30  # a scale, where all numbers are zero


def fake_weight(weight: Tensor) -> Tensor:
    """Return weights [O, ...] on their int8 grid: symmetric, of the scale absmax / 127 a channel o.

    A BatchNorm that is folded into the weight scales whole channels, and with them the grid: the
    folded weight of the quantised layer is the quantised folded weight.
    """
    values = weight.float()
    with torch.no_grad():
        scale = (values.flatten(1).abs().amax(1) / LEVELS).clamp(min=LEAST)
        zero = torch.zeros_like(scale, dtype=torch.int32)
    rounded = torch.fake_quantize_per_channel_affine(values, scale, zero, 0, -LEVELS, LEVELS)
    return rounded.to(weight.dtype)


def fake_input(values: Tensor, ends: Tensor) -> Tensor:
    """Return values on the uint8 grid of a range, [2]: low <= 0 <= high; 0 is on it.

    What is outside of the range, or of the half step by which the grid was moved, is clipped.
    """
    low, high = ends.float().unbind()
    scale = ((high - low) / STEPS).clamp(min=LEAST)
    zero = (-low / scale).round().clamp(0, STEPS).to(torch.int32)
    rounded = torch.fake_quantize_per_tensor_affine(values.float(), scale, zero, 0, STEPS)
    return rounded.to(values.dtype)
