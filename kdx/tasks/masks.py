"""Pictures of masks: panels side by side, above the names of the classes that they show."""

from collections.abc import Mapping, Sequence
from colorsys import hsv_to_rgb
from math import ceil

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from kdx.protocols import IGNORED

Color = tuple[int, int, int]  # RGB in 0..255
GREY: Color = (128, 128, 128)
OPACITY = 0.7
LEAST = 256  # pixels of a panel's shorter side: smaller images are enlarged
GAP, LINE = 8, 24  # pixels between the parts, and of a line of text at least
LINES = 24  # a picture is as wide as this many lines are high: text is read on a phone of 400, too
TURN = 0.618034  # of the circle of hues, so that the hues of any number of classes lie apart


def palette(number: int) -> list[Color]:
    """Return colours that are told apart, as long as there are not many dozens."""
    shades = ((TURN * n % 1, (0.9, 0.55)[n // 2 % 2], (0.95, 0.65)[n % 2]) for n in range(number))
    rgb = (hsv_to_rgb(*shade) for shade in shades)
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in rgb]


def draw_masks(
    image: Tensor, masks: Mapping[str, Tensor], *, classes: Sequence[str], colors: Sequence[Color]
) -> Tensor:
    """Return a picture, uint8 [3, h, w]: the image, and the masks over it by their titles.

    `image` is uint8 [3, H, W], a mask [H, W] classes, with -100 (grey) for pixels that do not
    count. Panels are enlarged by a whole factor where they would be small.
    """
    shown = torch.cat([mask.unique() for mask in masks.values()]).unique().tolist()
    names = {IGNORED: "ignored"} | dict(enumerate(classes))
    paint = {IGNORED: GREY} | dict(enumerate(colors))
    legend = [(names[n], paint[n]) for n in shown]
    drawn = [_over(image, mask, shown, [color for _, color in legend]) for mask in masks.values()]
    panels = [_enlarged(panel) for panel in (image, *drawn)]
    height, width = panels[0].shape[:2]
    across = len(panels) * (width + GAP)
    line = max(LINE, across // LINES)
    font = ImageFont.load_default(size=line * 5 / 8)
    below = line + height + GAP
    cell = line + 2 * GAP + ceil(max(font.getlength(name) for name, _ in legend))
    columns = max(1, across // cell)
    size = (across + GAP, below + ceil(len(legend) / columns) * line)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for number, (title, panel) in enumerate(zip(("image", *masks), panels, strict=True)):
        left = GAP + number * (width + GAP)
        draw.text((left, line / 2), title, fill="black", font=font, anchor="lm")
        canvas.paste(Image.fromarray(panel), (left, line))
    for number, (name, color) in enumerate(legend):
        row, column = divmod(number, columns)
        left, top = GAP + column * cell, below + row * line
        draw.rectangle((left, top + 4, left + line - 8, top + line - 4), fill=color)
        draw.text((left + line, top + line / 2), name, fill="black", font=font, anchor="lm")
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)


def _over(image: Tensor, mask: Tensor, shown: Sequence[int], colors: Sequence[Color]) -> Tensor:
    from torchvision.utils import draw_segmentation_masks  # here: it takes long to import

    masks = mask == torch.tensor(shown, device=mask.device)[:, None, None]
    return draw_segmentation_masks(image, masks, alpha=OPACITY, colors=list(colors))


def _enlarged(panel: Tensor) -> np.ndarray:
    """Return [h, w, 3], each pixel repeated."""
    factor = ceil(LEAST / min(panel.shape[1:]))
    pixels = panel.permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels.repeat(factor, 0).repeat(factor, 1))
