"""scikit-learn's handwritten digits: 1,797 grey images of 8 x 8, part of the package."""

import torch

from kdx.data.counter import Draw
from kdx.data.sets.resize import grey_input, resize
from kdx.data.sources import MemoryImages
from kdx.data.splits import complement, stratified
from kdx.protocols import ImageData

__all__ = ["digits"]

MEAN, STD = 0.3053, 0.3760  # of the 8 x 8 images
IMAGES, TEST_IMAGES = 1797, 360


def digits(*, size: int = 32, channels: int = 1) -> ImageData:
    """Open the digits, resized to `size`: 1,437 to train on and 360 to test on.

    The set has no split of its own; this one is fixed, and stratified by label.
    """
    from sklearn.datasets import load_digits

    spec = grey_input("digits", size, channels=channels, mean=MEAN, std=STD, images=IMAGES)
    pixels, targets = load_digits(return_X_y=True)  # [1797, 64], 0 to 16
    raw = torch.as_tensor(pixels).mul(255 / 16).round().to(torch.uint8)
    images, labels = resize(raw.view(-1, 1, 8, 8), size), torch.as_tensor(targets).long()
    test = stratified(labels, TEST_IMAGES, seed=0, draw=Draw.TEST)
    train = complement(test, len(labels))
    return ImageData(
        train=MemoryImages(images[train], labels[train], "digits", train),
        test=MemoryImages(images[test], labels[test], "digits", test),
        classes=[str(digit) for digit in range(10)],
        input=spec,
    )
