"""Where an image, its boxes and its mask lie in its view, by torchvision's transforms v2.

Draws from torch's CPU generator. h, w: the image's pixels, H, W: the view's, n: boxes.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import ColorJitter, functional
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Mask

from kdx.data.augment import Augment

CORNERS, CENTRED = BoundingBoxFormat.XYXY, BoundingBoxFormat.CXCYWH
convert = functional.convert_bounding_box_format


class Span(NamedTuple):
    """Along one side: `part` pixels of the image, from `start`, are seen on `length` of the view.

    `before` and `after` are the pixels of the view that they leave free.
    """

    start: int
    part: int
    before: int
    length: int
    after: int


class Placement(NamedTuple):
    """What is seen of an image, and where; whether mirrored; how far its colours may change."""

    rows: Span
    columns: Span
    mirrored: bool
    color: float

    def image(self, image: Tensor, fill: list[float]) -> Tensor:
        """Return the view [3, H, W] of an image [3, h, w], both uint8; `fill` [3] pads it."""
        image = functional.resized_crop(image, *self._part, size=self._size, antialias=True)
        if self.mirrored:
            image = functional.horizontal_flip(image)
        if color := self.color:
            jitter = ColorJitter(brightness=color, contrast=color, saturation=color, hue=color / 4)
            picture = functional.to_pil_image(image)  # twice as fast as on tensors
            image = functional.pil_to_tensor(jitter(picture))
        return functional.pad(image, self._padding, fill=fill)

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return boxes [n, 4] in the view, clipped, and the share [n] of each that is seen.

        Rows are centre and size as shares: of an image of `size` (h, w), then of the view.
        """
        corners = convert(boxes * _sides(size), CENTRED, CORNERS)
        zoom = self.rows.length / self.rows.part * self.columns.length / self.columns.part
        whole = _area(corners) * zoom
        kind, size = CORNERS, (self.rows.length, self.columns.length)
        corners, _ = functional.resized_crop_bounding_boxes(corners, kind, *self._part, [*size])
        if self.mirrored:
            corners = functional.horizontal_flip_bounding_boxes(corners, kind, size)
        seen = _area(corners) / whole
        corners, view = functional.pad_bounding_boxes(corners, kind, size, self._padding)
        return convert(corners, CORNERS, CENTRED) / _sides(view), seen

    def mask(self, mask: Tensor) -> Tensor:
        """Return what is seen of a mask [h, w] (uint8), without padding.

        A pixel takes the value at its centre; torchvision's masks take its corner's.
        """
        part = functional.crop(mask[None], *self._part)
        part = functional.resize(part, self._size, InterpolationMode.NEAREST_EXACT)
        return (functional.horizontal_flip(part) if self.mirrored else part)[0]

    def pad_mask(self, mask: Tensor, fill: int) -> Tensor:
        """Return what is seen of a mask padded to [H, W]."""
        left, top, right, bottom = self._padding
        return pad(mask, (left, right, top, bottom), value=fill)

    @property
    def _part(self) -> tuple[int, int, int, int]:
        return self.rows.start, self.columns.start, self.rows.part, self.columns.part

    @property
    def _size(self) -> list[int]:
        return [self.rows.length, self.columns.length]

    @property
    def _padding(self) -> list[int]:
        return [self.columns.before, self.rows.before, self.columns.after, self.rows.after]


def place(
    size: tuple[int, int],
    view: tuple[int, int],
    *,
    scales: tuple[float, float],
    augment: Augment | None,
) -> Placement:
    """Place an image of `size` (h, w), enlarged by `scales` of height and width, on a view (H, W).

    In the middle, or, if the augmentation has a window or a further scale, at random.
    """
    factor, top, left, mirrored, color = 1.0, 0.5, 0.5, False, 0.0
    if augment is not None:
        draws = torch.rand(4).tolist()
        if augment.scale is not None or augment.window is not None:
            top, left = draws[:2]
        if augment.scale is not None:
            low, high = augment.scale
            factor = low + (high - low) * draws[2]
        mirrored, color = augment.flip and draws[3] < 0.5, augment.color
    rows, columns = (
        span(side, room, scale=scale * factor, where=where)
        for side, room, scale, where in zip(size, view, scales, (top, left), strict=True)
    )
    return Placement(rows, columns, mirrored, color)


class Ids(Mask):
    """A mask of classes: resized, each pixel takes the class at its centre (nearest-exact).

    torchvision resizes masks by the corners of pixels but images by their centres, which shifts
    one against the other.
    """


@functional.register_kernel(functional.resize, Ids)
def _resize(
    ids: Tensor, size: list[int], *_: Any, max_size: int | None = None, **__: Any
) -> Tensor:
    mode = InterpolationMode.NEAREST_EXACT
    return functional.resize(ids.as_subclass(Tensor), size, mode, max_size).as_subclass(Ids)


@functional.register_kernel(functional.resized_crop, Ids)
def _resized_crop(
    ids: Tensor, top: int, left: int, height: int, width: int, size: list[int], **_: Any
) -> Tensor:
    return _resize(functional.crop(ids, top, left, height, width), size)


def boxes_on(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return boxes [n, 4], centre and size as shares of an image of `size` (h, w), for a list.

    Twice: what is seen of them, which the borders of the image cut, and the whole boxes.
    """
    corners = convert(boxes * _sides(size), CENTRED, CORNERS)
    kind: dict[str, Any] = {"format": CORNERS, "canvas_size": size}
    unclamped: dict[str, Any] = {"clamping_mode": None}
    whole = BoundingBoxes(corners, **kind, **unclamped)
    return functional.clamp_bounding_boxes(BoundingBoxes(corners, **kind)), whole


def boxes_off(seen: Tensor, whole: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return boxes [n, 4] as before `boxes_on`, and the share [n] of each that is seen; or NaN."""
    seen, whole = (each.as_subclass(Tensor) for each in (seen, whole))
    return convert(seen, CORNERS, CENTRED) / _sides(size), _area(seen) / _area(whole)


def span(side: int, view: int, *, scale: float, where: float) -> Span:
    """Return how `side` pixels, enlarged by `scale`, lie on `view` pixels.

    If they are too many a part is seen, else they are padded; `where`, in [0, 1), is the place.
    """
    length = max(1, round(side * scale))
    if length <= view:
        before = int(where * (view - length + 1))
        return Span(0, side, before, length, view - length - before)
    part = min(side, max(1, round(view / scale)))
    return Span(int(where * (side - part + 1)), part, 0, view, 0)


def _sides(size: tuple[int, int]) -> Tensor:
    return torch.tensor(size[::-1] * 2)


def _area(corners: Tensor) -> Tensor:
    left, top, right, bottom = corners.unbind(1)
    return (right - left) * (bottom - top)
