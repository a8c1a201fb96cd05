"""Small grey images, once and for all, to the size and the channels that a network takes."""

from torch import Tensor
from torch.nn import functional

from kdx.launch.memory import check_fits
from kdx.protocols import InputSpec

LARGEST = 1024  # pixels a side
COPIES = 3  # of the images, while they are resized and split


def resize(images: Tensor, size: int) -> Tensor:
    """Return uint8 [N, C, size, size]: torchvision's antialiased bilinear resize, to the bit."""
    return functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def grey_input(
    origin: str, size: int, *, channels: int, mean: float, std: float, images: int
) -> InputSpec:
    """Return the input of a network for grey images; ValueError where there is none such.

    The `images` are stored once; a view repeats them over 3 channels. ValueError also where they
    would not fit into memory.
    """
    if channels not in (1, 3):
        raise ValueError(f"{origin}: channels: {channels} must be 1 (grey) or 3 (grey, repeated)")
    if not 1 <= size <= LARGEST:
        raise ValueError(f"{origin}: size: {size} must be 1 pixel or more, at most {LARGEST}")
    check_fits(COPIES * images * size**2, f"{origin}: {images:,} images of size: {size}")
    return InputSpec(channels, size, (mean,) * channels, (std,) * channels)
