"""What is done to a whole batch of images at once, as uint8 [B, C, H, W].

NumPy does the copying: its fancy indexing of byte images is several times faster than torch's.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kdx.protocols import InputSpec

__all__ = ["Augment", "flip", "normalise", "pad_and_crop"]


@dataclass(frozen=True)
class Augment:
    """Random changes to the training images.

    `crop`: pixels of zero padding on each side, from which a window of the image's own size is
    cropped. `flip`: mirror every other image left to right. `resized_crop`: for files, crop this
    range of the image's area and resize it (Szegedy et al. 2015; sides 3:4 to 4:3).
    Raises ValueError for values out of range, and for both kinds of crop.
    """

    crop: int = 0
    flip: bool = False
    resized_crop: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise ValueError(f"augment.crop: {self.crop} is not a padding in pixels (0 or more)")
        if self.resized_crop is None:
            return
        low, high = self.resized_crop
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"augment.resized_crop: [{low}, {high}] is not a range of the image's area: "
                "0 < low <= high <= 1, such as [0.08, 1]"
            )
        if self.crop:
            raise ValueError("augment: use crop or resized_crop, not both")


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
