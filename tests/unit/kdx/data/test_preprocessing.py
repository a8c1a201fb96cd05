"""What the exported file says of preprocessing: each kind of images, and what kdx does not know."""

import json

import torch
from torch.utils.data import Subset
from torchvision.transforms import v2

from kdx.data import BoxImages, FileImages, MaskImages, MemoryImages, from_datasets
from kdx.data.preprocessing import in_words, preparation
from kdx.protocols import InputSpec
from tests.unit.kdx.data.test_from_torch import Pairs

LABELS = torch.zeros(1, dtype=torch.int64)
SQUARE = InputSpec(3, 64, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
WIDE = InputSpec(3, (32, 48), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
AFTER = {"layout": "CHW", "scale": 255, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


def test_image_files():
    made = preparation(FileImages(["a.png"], LABELS), SQUARE)
    resize = {"shorter_side": 73, "unless_of": [64, 64]}
    resize |= {"interpolation": "bilinear", "antialias": True}
    assert made == AFTER | {
        "mode": "RGB",
        "resize": resize | {"library": "Pillow"},
        "crop": {"size": [64, 64], "at": "center"},
        "pad": None,
        "size": [64, 64],
    }
    assert json.loads(json.dumps(made)) == made
    assert in_words(made) == (
        "mode RGB; the shorter side resized to 73 pixels (bilinear, antialiased, Pillow), "
        "unless it is 64 x 64; the middle 64 x 64 cropped"
    )


def test_images_with_boxes_and_masks():
    boxes = preparation(BoxImages(["a.png"], [torch.zeros(0, 6)], LABELS), WIDE)
    table = torch.zeros(256, dtype=torch.int64)
    masks = preparation(MaskImages(["a.png"], ["b.png"], table, LABELS), WIDE)
    assert boxes["pad"] == {"size": [32, 48], "at": "center", "value": [127, 127, 127]}
    assert (boxes["resize"]["inside"], masks["resize"]["exactly"]) == ([32, 48], [32, 48])
    assert "padded around it to 32 x 48 with [127, 127, 127]" in in_words(boxes)
    assert "resized to 32 x 48, whatever its shape pixels" not in in_words(masks)
    assert "resized to 32 x 48 pixels, whatever the shape" in in_words(masks)


def test_images_in_memory_are_taken_as_they_are():
    grey = MemoryImages(torch.zeros(1, 1, 64, 64, dtype=torch.uint8), LABELS, "grey")
    made = preparation(grey, SQUARE)
    assert (made["mode"], made["resize"], made["crop"]) == ("L", None, None)
    assert in_words(made) == "mode L; of 64 x 64 pixels, not resized"


def test_what_others_prepare_is_named():
    transform = v2.Compose([v2.Resize(8), v2.Lambda(lambda image: image)])
    squares = Pairs([(torch.zeros(1, 8, 8), n) for n in (0, 1)], transform=transform)
    data = from_datasets(Subset(squares, [0, 1]), Subset(squares, [0, 1]))
    made = preparation(data.test, data.input)
    assert made["by"] == "the Dataset Pairs"
    assert "Resize(size=[8]" in made["transform"]
    assert " at 0x" not in made["transform"]
    assert in_words(made).startswith("prepared by the Dataset Pairs Compose(")

    class Plugin:
        pass

    made = preparation(Plugin(), SQUARE)
    assert (made["by"], made["mode"]) == ("Plugin", None)
