"""scikit-learn's handwritten digits: 1,797 grey images of 8 x 8, part of the package."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdx.data.counter import Draw
from kdx.data.sets.resize import grey_input, resize
from kdx.data.sources import MemoryImages
from kdx.data.splits import complement, stratified
from kdx.protocols import ImageData

MEAN, STD = 0.3053, 0.3760  # of the 8 x 8 images
IMAGES, TEST_IMAGES = 1797, 360


def digits(*, size: int = 32, channels: int = 1) -> ImageData:
    """Open the digits, resized to `size`: 1,437 to train on and 360 to test on.

    The set has no split of its own; this one is fixed, and stratified by label.
    """
    spec = grey_input("digits", size, channels=channels, mean=MEAN, std=STD, images=IMAGES)
    pixels, labels = _read().split((64, 1), dim=1)
    raw = pixels.mul(255 / 16).round().to(torch.uint8)
    images, labels = resize(raw.view(-1, 1, 8, 8), size), labels.squeeze(1).long()
    test = stratified(labels, TEST_IMAGES, seed=0, draw=Draw.TEST)
    train = complement(test, len(labels))
    return ImageData(
        train=MemoryImages(images[train], labels[train], "digits", train),
        test=MemoryImages(images[test], labels[test], "digits", test),
        classes=[str(digit) for digit in range(10)],
        input=spec,
    )


def _read() -> Tensor:
    """Return [1797, 65]: pixels from 0 to 16, and the label.

    Out of scikit-learn's file, as `sklearn.datasets.load_digits` does: importing that takes as
    long as importing torch.
    """
    package = find_spec("sklearn")
    assert package is not None, "kdx depends on scikit-learn"
    assert package.origin is not None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    return torch.as_tensor(np.loadtxt(path, delimiter=","))
