"""Data sets, and the images in them. N: samples, H, W: height and width in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdx.protocols.images import ImageSource, InputSpec
from kdx.protocols.tasks import Task


@dataclass(frozen=True)
class ImageData:
    """A data set: the training and the test images, and what every network must know of them.

    `notes`: what a run prints of it, such as images that were left out. `task`: what its
    networks do; None for classification.
    """

    train: ImageSource
    test: ImageSource
    classes: Sequence[str]
    input: InputSpec
    notes: Sequence[str] = ()
    task: Task | None = None
