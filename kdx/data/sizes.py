"""Multi-scale training: a batch at one of several sizes (Redmon & Farhadi 2016, section 3)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from kdx.data.counter import Draw, integers

STEPS = 10  # at one size, as in the paper


def side(sizes: Sequence[int], *, seed: int, epoch: int, step: int) -> int | None:
    """Return which of `sizes` a step uses, None if there are no sizes: a pure function."""
    if not sizes:
        return None
    return sizes[int(integers(seed, epoch, step // STEPS, Draw.SIZE, len(sizes))[0])]


def resized(images: Tensor, size: int | None) -> Tensor:
    """Return images [B, C, H, W] with `size` pixels a side, if given, bilinear and antialiased."""
    if size is None or images.shape[2:] == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
