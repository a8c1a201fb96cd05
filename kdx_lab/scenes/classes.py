"""The names of Fashion-MNIST's ten classes in the layouts of VOC and Cityscapes."""

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import Cityscapes

from kdx.data.sets.fashion_mnist import CLASSES
from kdx_lab.scenes.visible import CLUTTER, RING

__all__ = ["COLOURS", "LABEL_IDS", "LAYER_IDS", "NAMES", "class_map"]

NAMES = (
    *("tshirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
OF_CITYSCAPES = (  # classes that are trained on, in distinguishable colours
    *("person", "traffic sign", "vegetation", "traffic light", "sky"),
    *("terrain", "sidewalk", "car", "building", "bicycle"),
)
_KNOWN = {known.name: known for known in Cityscapes.classes}

LABEL_IDS = [_KNOWN[name].id for name in OF_CITYSCAPES]
"""Cityscapes' id of each of the ten classes."""
LAYER_IDS = {0: _KNOWN["road"].id, CLUTTER: _KNOWN["static"].id, RING: _KNOWN["unlabeled"].id}
"""Cityscapes' id of non-objects: the last two are ignored in training and evaluation."""
COLOURS: NDArray[np.uint8] = np.array([k.color for k in Cityscapes.classes if k.id >= 0], np.uint8)
"""Cityscapes' colour of each id, [34, 3]."""


def class_map() -> dict[str, object]:
    """Return the map from items to both layouts, for JSON."""
    by_id = {known.id: known for known in Cityscapes.classes}

    def entry(number: int) -> dict[str, object]:
        known = by_id[number]
        return {"cityscapes": known.name, "id": known.id, "train_id": known.train_id}

    rows = zip(CLASSES, NAMES, LABEL_IDS, strict=True)
    layers = zip(("background", "clutter", "ring"), LAYER_IDS.values(), strict=True)
    return {
        "classes": [{"item": item, "voc": name, **entry(number)} for item, name, number in rows],
        **{name: entry(number) for name, number in layers},
    }
