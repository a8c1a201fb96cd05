"""What every data set must be, whoever opened it, seen before anything is built on it."""

import math

from kdx.data.views import Views
from kdx.protocols import ImageData, InputSpec


def check_data(data: ImageData) -> None:
    """Raise ValueError where a data set cannot be trained on, naming the part or the sample.

    Refused: fewer than two classes, or than one where the data set brings a task; an input that no
    pixels can be normalised to, images of another size or number of channels than the input's, and
    a split without images.
    """
    least = 1 if data.task else 2
    if len(data.classes) < least:
        raise ValueError(f"too few classes: {list(data.classes)}, but {least} or more are needed")
    _check_input(data.input)
    for part, source in (("train", data.train), ("test", data.test)):
        Views(source, data.input, seed=0)  # refuses images that do not fit
        if not len(source):
            raise ValueError(f"{part}: it has no images")


def _check_input(spec: InputSpec) -> None:
    if min(spec.hw) < 1 or not len(spec.mean) == len(spec.std) == spec.channels:
        raise ValueError(
            f"{spec!r}: size must be 1 or more, and mean and std have a number for each channel"
        )
    if not all(map(math.isfinite, spec.mean)) or not all(0 < s < math.inf for s in spec.std):
        raise ValueError(f"{spec!r}: mean must be finite, and std above 0")
