from dataclasses import replace
from math import inf, nan

import pytest
import torch

from kdx.data import MemoryImages, check_data
from kdx.protocols import ImageData, InputSpec
from kdx.tasks import Detection

SPEC = InputSpec(1, 4, (0.5,), (0.5,))


def source(*labels: int, size: int = 4, origin: str = "toy") -> MemoryImages:
    images = torch.zeros(len(labels), 1, size, size, dtype=torch.uint8)
    return MemoryImages(images, torch.tensor(labels, dtype=torch.int64), origin)


GOOD = ImageData(source(0, 1, 2), source(2, 0), ["a", "b", "c"], SPEC)


DETECTION = Detection(classes=["a"], anchors=[[1, 1]])


def test_a_good_set():
    check_data(GOOD)
    check_data(replace(GOOD, classes=["a"], task=DETECTION))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": []}, r"too few classes: \[\], but 2 or more"),
        ({"classes": ["a"]}, r"too few classes: \['a'\], but 2 or more"),
        ({"classes": [], "task": DETECTION}, r"too few classes: \[\], but 1 or more"),
        ({"train": source()}, "train: it has no images"),
        ({"test": source()}, "test: it has no images"),
        ({"test": source(0, size=5)}, "toy: images of 1 x 5 x 5 do not fit an input of 1 x 4 x 4"),
        ({"train": [1, 2]}, "list is not an image source: use kdx.data.MemoryImages or FileImages"),
    ],
)
def test_sets_that_cannot_be_trained_on(change, message):
    with pytest.raises(ValueError, match=message):
        check_data(replace(GOOD, **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (nan,)}, r"mean=\(nan,\).*: mean must be finite, and std above 0"),
        ({"std": (0.0,)}, r"std=\(0\.0,\).*: mean must be finite, and std above 0"),
        ({"std": (inf,)}, r"std=\(inf,\).*: mean must be finite, and std above 0"),
        ({"std": (nan,)}, r"std=\(nan,\).*: mean must be finite, and std above 0"),
        ({"std": (1.0, 1.0)}, "mean and std have a number for each channel"),
        ({"mean": ()}, "mean and std have a number for each channel"),
        ({"size": 0}, "size must be 1 or more"),
    ],
)
def test_inputs_that_no_pixels_can_be_normalised_to(change, message):
    with pytest.raises(ValueError, match=message):
        check_data(replace(GOOD, input=replace(SPEC, **change)))
