"""A sheet with some scenes, their boxes, and beside them their masks in colour."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kdx_lab.scenes.cityscapes import label_ids
from kdx_lab.scenes.classes import COLOURS, LABEL_IDS, NAMES
from kdx_lab.scenes.compose import Scene
from kdx_lab.scenes.visible import Found

__all__ = ["sheet"]

PAIRS = 3  # of picture and mask, side by side
AREA = 256**2  # pixels of a picture
GAP = 6  # pixels between two
LETTERS = 12


def sheet(scenes: Sequence[Scene]) -> Image.Image:
    """Return an image of the scenes, row by row."""
    pictures = [picture for scene in scenes for picture in (_boxed(scene), _masked(scene))]
    width, height = (side + GAP for side in pictures[0].size)
    columns = 2 * PAIRS
    rows = -(-len(pictures) // columns)
    paper = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        paper.paste(picture, (GAP + column * width, GAP + row * height))
    return paper


def _boxed(scene: Scene) -> Image.Image:
    picture = _fitted(Image.fromarray(scene.image), Image.Resampling.BICUBIC)
    scale = picture.width / scene.image.shape[1]
    for found in scene.objects:
        _draw_box(ImageDraw.Draw(picture), found, scale)
    return picture


def _masked(scene: Scene) -> Image.Image:
    colours = Image.fromarray(COLOURS[label_ids(scene)])
    picture = _fitted(Image.fromarray(scene.image), Image.Resampling.BICUBIC)
    return Image.blend(picture, _fitted(colours, Image.Resampling.NEAREST), 0.75)


def _fitted(picture: Image.Image, resample: Image.Resampling) -> Image.Image:
    scale = (AREA / (picture.width * picture.height)) ** 0.5
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), resample)


def _draw_box(draw: ImageDraw.ImageDraw, found: Found, scale: float) -> None:
    """Draw box and name in the colour of the mask; a thin box is a difficult object."""
    left, top, right, bottom = np.add(found.box, (0, 0, 1, 1)) * scale
    red, green, blue = COLOURS[LABEL_IDS[found.label]].tolist()
    draw.rectangle(
        [left, top, right - 1, bottom - 1],
        outline=(red, green, blue),
        width=1 if found.difficult else 2,
    )
    font = ImageFont.load_default(LETTERS)
    corner = (left + 3, max(0, top - LETTERS - 2))
    written = draw.textbbox(corner, NAMES[found.label], font=font)
    draw.rectangle(
        (written[0] - 2, written[1] - 1, written[2] + 2, written[3] + 1), fill=(red, green, blue)
    )
    bright = 0.3 * red + 0.6 * green + 0.1 * blue > 128
    draw.text(corner, NAMES[found.label], fill="black" if bright else "white", font=font)
