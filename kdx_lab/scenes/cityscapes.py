"""Scenes in the layout of Cityscapes, for torchvision's Cityscapes.

H x W: pixels.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdx_lab.scenes.classes import COLOURS, LABEL_IDS, LAYER_IDS
from kdx_lab.scenes.compose import Scene

__all__ = ["label_ids", "save_scene"]

CITY = "scenes"
LEVEL = 3  # of compression: half the time of the usual 6


def save_scene(scene: Scene, out: Path, *, split: str, name: str) -> None:
    """Write leftImg8bit, and gtFine's labelIds, instanceIds and color; no polygons."""
    ids = label_ids(scene)
    _save(scene.image, out, "leftImg8bit", split, f"{name}_000000_leftImg8bit")
    for kind, pixels in (
        ("labelIds", ids),
        ("instanceIds", _instance_ids(scene, ids)),
        ("color", COLOURS[ids]),
    ):
        _save(pixels, out, "gtFine", split, f"{name}_000000_gtFine_{kind}")


def label_ids(scene: Scene) -> NDArray[np.uint8]:
    """Return Cityscapes' id of each pixel, uint8 [H, W]."""
    table = np.zeros(256, np.uint8)
    for layer, number in LAYER_IDS.items():
        table[layer] = number
    for found in scene.objects:
        table[found.number] = LABEL_IDS[found.label]
    return table[scene.layers]


def _instance_ids(scene: Scene, ids: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return id x 1000 + the object's index in the list of objects, [H, W]; elsewhere the id."""
    instances = ids.astype(np.uint16)
    for place, found in enumerate(scene.objects):
        instances[scene.layers == found.number] = LABEL_IDS[found.label] * 1000 + place
    return instances


def _save(pixels: NDArray, out: Path, kind: str, split: str, stem: str) -> None:
    folder = out / kind / split / CITY
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{CITY}_{stem}.png", compress_level=LEVEL)
