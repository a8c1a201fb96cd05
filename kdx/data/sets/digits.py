"""scikit-learn's handwritten digits: 1,797 grey images of 8 x 8, part of the package."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdx.data.counter import Draw
from kdx.data.sizes import resized
from kdx.data.sources import MemoryImages
from kdx.data.splits import complement, stratified
from kdx.launch.memory import check_fits
from kdx.protocols import ImageData, InputSpec

__all__ = ["digits"]

MEAN, STD = 0.3053, 0.3760  # of the 8 x 8 images
IMAGES, TEST_IMAGES = 1797, 360
LARGEST = 1024  # pixels a side
COPIES = 3  # of the images, while they are resized and split


def digits(*, size: int = 32, channels: int = 1) -> ImageData:
    """Open the digits, resized to `size`: 1,437 to train on and 360 to test on.

    The set has no split of its own; this one is fixed, and stratified by label.
    """
    spec = grey_input("digits", size, channels=channels, mean=MEAN, std=STD, images=IMAGES)
    pixels, labels = _read().split((64, 1), dim=1)
    raw = pixels.mul(255 / 16).round().to(torch.uint8)
    images, labels = resized(raw.view(-1, 1, 8, 8), size), labels.squeeze(1).long()
    test = stratified(labels, TEST_IMAGES, seed=0, draw=Draw.TEST)
    train = complement(test, len(labels))
    return ImageData(
        train=MemoryImages(images[train], labels[train], "digits", train),
        test=MemoryImages(images[test], labels[test], "digits", test),
        classes=[str(digit) for digit in range(10)],
        input=spec,
    )


def grey_input(
    origin: str, size: int, *, channels: int, mean: float, std: float, images: int
) -> InputSpec:
    """Return the input of a network for so many grey `images`; a view may repeat channels.

    ValueError for other channels, a size out of range, and images that would not fit into memory.
    """
    if channels not in (1, 3):
        raise ValueError(f"{origin}: channels: {channels} must be 1 (grey) or 3 (grey, repeated)")
    if not 1 <= size <= LARGEST:
        raise ValueError(f"{origin}: size: {size} must be 1 pixel or more, at most {LARGEST}")
    check_fits(COPIES * images * size**2, f"{origin}: {images:,} images of size: {size}")
    return InputSpec(channels, size, (mean,) * channels, (std,) * channels)


def _read() -> Tensor:
    """Return [1797, 65]: pixels from 0 to 16, and the label; from the file, as sklearn is slow."""
    package = find_spec("sklearn")
    assert package is not None, "kdx depends on scikit-learn"
    assert package.origin is not None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    return torch.as_tensor(np.loadtxt(path, delimiter=","))
