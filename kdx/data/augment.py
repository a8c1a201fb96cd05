"""What is done to a whole batch of images at once, as uint8 [B, C, H, W].

NumPy does the copying: its fancy indexing of byte images is several times faster than torch's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import inf

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kdx.protocols import InputSpec

__all__ = ["Augment", "check_view", "flip", "normalise", "pad_and_crop", "pair"]


@dataclass(frozen=True)
class Augment:
    """Random changes to the training images.

    `crop`: pixels of zero padding on each side, from which a window of the image's own size is
    cropped. `flip`: mirror every other image left to right. `resized_crop`: for files, crop this
    range of the image's area and resize it (Szegedy et al. 2015; sides 3:4 to 4:3).

    For images with boxes or masks: `scale`, enlarge or shrink the image by a factor in this range
    and place it at random; `window`, train on a part of so many pixels a side, or (height, width),
    at random (masks); `color`, in [0, 1], change brightness, contrast and saturation by up to this
    share, and the hue by a quarter of it; `sizes`, resize each batch to one of these sides
    (multi-scale training, Redmon & Farhadi 2016, section 3; boxes).
    Raises ValueError for values out of range, and for both kinds of crop.
    """

    crop: int = 0
    flip: bool = False
    resized_crop: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    window: int | tuple[int, int] | None = None
    color: float = 0.0
    sizes: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise ValueError(f"augment.crop: {self.crop} is not a padding in pixels (0 or more)")
        if self.resized_crop is not None:
            low, high = self.resized_crop
            if not 0 < low <= high <= 1:
                raise ValueError(
                    f"augment.resized_crop: [{low}, {high}] is not a range of the image's area: "
                    "0 < low <= high <= 1, such as [0.08, 1]"
                )
            if self.crop:
                raise ValueError("augment: use crop or resized_crop, not both")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] < inf:
            raise ValueError(
                f"augment.scale: {list(self.scale)} is not a range of factors above 0: [0.5, 2]"
            )
        if not 0 <= self.color <= 1:
            raise ValueError(f"augment.color: {self.color} is not a share in [0, 1]")
        if self.window is not None and min(pair(self.window)) < 1:
            raise ValueError(f"augment.window: {self.window} is not a size in pixels")
        if any(size < 1 for size in self.sizes):
            raise ValueError(f"augment.sizes: {list(self.sizes)} are not sides in pixels")

    @property
    def changes(self) -> list[str]:
        """The names of the changes that are asked for."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a size that may be one number."""
    return (size, size) if isinstance(size, int) else size


def check_view(
    kind: str, input: InputSpec, augment: Augment | None, *, takes: Sequence[str]
) -> None:
    """Raise ValueError where image files of a kind, "with masks" say, cannot be seen as asked.

    `takes` are the changes that they can have.
    """
    if input.channels != 3:
        raise ValueError(f"image files {kind} are RGB: an input of {input} is not")
    if refused := [name for name in (augment.changes if augment else ()) if name not in takes]:
        raise ValueError(f"augment.{', '.join(refused)}: images {kind} take {', '.join(takes)}")


def pad_and_crop(images: Tensor, padding: int, *, top: NDArray, left: NDArray) -> Tensor:
    """Return windows of the zero-padded images, each of the image's own size.

    `top` and `left` [B] are the windows' corners, in [0, 2 * padding].
    """
    padded = functional.pad(images, (padding,) * 4).numpy()
    windows = sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    return torch.from_numpy(windows[np.arange(len(padded)), :, top, left])


def flip(images: Tensor, which: NDArray) -> Tensor:
    """Mirror left to right, in place, the images that `which` [B] (bool) marks."""
    pixels = images.numpy()
    pixels[which] = pixels[which][..., ::-1]
    return images


def normalise(images: Tensor, spec: InputSpec) -> Tensor:
    """Return float32 [B, spec.channels, H, W]: (x / 255 - mean) / std; grey is repeated."""
    mean = torch.tensor(spec.mean).mul(255).view(-1, 1, 1)
    scale = torch.tensor(spec.std).mul(255).reciprocal().view(-1, 1, 1)
    return images.float().expand(-1, spec.channels, -1, -1).sub(mean).mul_(scale)
