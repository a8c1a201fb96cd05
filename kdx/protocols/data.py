"""Data sets, and the images in them. N: samples, H, W: height and width in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kdx.protocols.images import ImageSource, InputSpec
from kdx.protocols.tasks import Task


@dataclass(frozen=True)
class ImageData:
    """A data set: the training and the test images, and what every network must know of them.

    `notes`: what a run shall say of it, such as images left out. `task`: None for classification.
    """

    train: ImageSource
    test: ImageSource
    classes: Sequence[str]
    input: InputSpec
    notes: Sequence[str] = ()
    task: Task | None = None


class DatasetFactory(Protocol):
    """Opens a data set; every problem that can be seen without decoding is raised here."""

    def __call__(self, *args: Any, **arguments: Any) -> ImageData:
        """Return the data set; ValueError names the place and the value that is wrong."""
        ...
