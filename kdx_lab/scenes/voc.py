"""Scenes in the layout of Pascal VOC 2007, for torchvision's VOCDetection."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from PIL import Image

from kdx.util.files import write_whole
from kdx_lab.scenes.classes import NAMES
from kdx_lab.scenes.compose import Scene
from kdx_lab.scenes.visible import Found

__all__ = ["save_scene", "save_sets"]

ROOT = Path("VOCdevkit/VOC2007")
QUALITY = 90  # of JPEG


def save_scene(scene: Scene, out: Path, *, name: str) -> None:
    """Write JPEGImages/`name`.jpg and Annotations/`name`.xml."""
    image, annotation = (
        out / ROOT / place for place in (f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml")
    )
    for path in (image, annotation):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(image, quality=QUALITY)
    tree = _annotation(scene, image.name)
    ElementTree.indent(tree, "\t")
    annotation.write_bytes(ElementTree.tostring(tree) + b"\n")


def save_sets(names: Mapping[str, Sequence[str]], out: Path) -> None:
    """Write ImageSets/Main: train, val, trainval and test, one name per line."""
    folder = out / ROOT / "ImageSets/Main"
    folder.mkdir(parents=True)
    for split, listed in {**names, "trainval": [*names["train"], *names["val"]]}.items():
        write_whole(folder / f"{split}.txt", "".join(f"{name}\n" for name in listed))


def _annotation(scene: Scene, filename: str) -> Element:
    height, width, depth = scene.image.shape
    root = Element("annotation")
    _add(root, folder=ROOT.name, filename=filename)
    _add(SubElement(root, "source"), database="scenes of Fashion-MNIST")
    _add(SubElement(root, "size"), width=width, height=height, depth=depth)
    _add(root, segmented=0)
    for found in scene.objects:
        _add_object(root, found)
    return root


def _add_object(root: Element, found: Found) -> None:
    """Add an object; VOC counts pixels from 1."""
    element = SubElement(root, "object")
    flags = {"truncated": int(found.truncated), "difficult": int(found.difficult)}
    _add(element, name=NAMES[found.label], pose="Unspecified", **flags)
    left, top, right, bottom = (place + 1 for place in found.box)
    _add(SubElement(element, "bndbox"), xmin=left, ymin=top, xmax=right, ymax=bottom)


def _add(parent: Element, **fields: str | int) -> None:
    for tag, value in fields.items():
        SubElement(parent, tag).text = str(value)
