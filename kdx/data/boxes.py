"""Images with boxes around objects. N: samples, n: boxes of an image, H, W: a view's pixels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdx.data.augment import Augment, check_changes, check_list
from kdx.data.decode import Size, decode_annotated, read_header
from kdx.data.files import Files
from kdx.data.sources import BILINEAR, check_lists, check_rgb, found_in, taken
from kdx.protocols import InputSpec
from kdx.util.strings import packed

GREY = 127  # around an image that does not fill its view, as in darknet's letterbox
LEAST_SEEN = 0.25  # the share of a box that a random view must show, for the box to count
CELL = 32  # pixels of a view, along a side, to a cell of YOLO's grid


@dataclass(eq=False)
class BoxImages(Files):
    """Image files with boxes; `labels` [N] (int64) are what splits go by (`largest_classes`).

    `boxes` are [n, 6] (float32) for each image, rows of (class, x, y, w, h, difficult), centre and
    size as shares of the image. `annotations` are the files that they were read from. `sizes` [N]
    are the sizes (H, W) of the images that the boxes were drawn on; without them an image with an
    EXIF orientation is refused when it is seen.

    A view is the image letterboxed: as large as fits, in the middle of grey. With `augment.scale`
    it is enlarged by a factor drawn evenly from that range, and lies anywhere, as in darknet; a
    list of augmentations comes before the letterbox. Of the boxes that a random view's borders cut
    those count that show a quarter of themselves. ValueError for
    lists of different lengths, and for boxes of another dtype or shape.
    """

    paths: Sequence[str]
    boxes: Sequence[Tensor]
    labels: Tensor
    annotations: Sequence[str] = ()
    sizes: Sequence[Size] = ()

    def __post_init__(self) -> None:
        more = {"annotations": self.annotations, "sizes": self.sizes}
        more = {name: each for name, each in more.items() if each}
        check_lists("images with boxes", self.labels, paths=self.paths, boxes=self.boxes, **more)
        self.paths = packed(self.paths)
        for path, boxes in zip(self.paths, self.boxes, strict=True):
            if boxes.dtype != torch.float32 or boxes.shape[1:] != (6,):
                wanted = "float32 [n, 6], rows of (class, x, y, w, h, difficult)"
                raise ValueError(f"{path}: its boxes must be {wanted}, not {found_in(boxes)}")

    @property
    def files(self) -> Sequence[str]:
        """The images and the annotations."""
        return [*self.paths, *self.annotations]

    def tensors(self, *, targets: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield the boxes, which are targets."""
        yield from (("boxes", boxes) for boxes in self.boxes if targets)

    def subset(self, indices: Tensor) -> "BoxImages":
        """Return the samples at `indices` [n], in that order."""
        paths, boxes = taken(self.paths, indices), taken(self.boxes, indices)
        annotations = taken(self.annotations, indices) if self.annotations else ()
        sizes = taken(self.sizes, indices) if self.sizes else ()
        return BoxImages(paths, boxes, self.labels[indices], annotations, sizes)

    def size(self, index: int) -> Size:
        """Return the size (H, W) of the image that the boxes are shares of."""
        return self.sizes[index] if self.sizes else read_header(self.paths[index]).size

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the boxes as one tensor: of each tensor that a worker gets a file stays open."""
        counts = [len(rows) for rows in self.boxes]
        rows = torch.cat([torch.empty(0, 6), *self.boxes])
        return _unpacked, (rows, counts, self.paths, self.labels, self.annotations, self.sizes)

    def check(self, input: InputSpec, augment: Augment | None) -> None:
        """Raise ValueError for an input that is not RGB, and for changes that boxes cannot have."""
        check_rgb("images with boxes", input)
        takes = ("flip", "scale", "color", "sizes", "then")
        check_changes("images with boxes", augment, takes=takes)
        check_list("images with boxes", augment)
        sizes = augment.sizes if augment else ()
        if odd := [size for size in sizes if size % CELL]:
            raise ValueError(
                f"augment.sizes: {odd} are not multiples of {CELL}, a grid cell's pixels"
            )
        if sizes and input.hw[0] != input.hw[1]:
            raise ValueError(
                f"augment.sizes: {list(sizes)} are sides of squares, and would distort images of "
                f"{input.hw[0]} x {input.hw[1]}: leave them out, or set size to one side"
            )

    def preparation(self, input: InputSpec) -> Mapping[str, Any]:
        """Return that images are letterboxed; see `kdx.data.preparation`."""
        hw = list(input.hw)
        resize = {"inside": hw, **BILINEAR, "library": "torchvision (uint8)"}
        pad = {"size": hw, "at": "center", "value": [GREY] * 3}
        return {"mode": "RGB", "resize": resize, "pad": pad}

    def view(self, index: int, input: InputSpec, augment: Augment | None) -> tuple[Tensor, Tensor]:
        """Return an image, uint8 [3, H, W], and its boxes [n, 6], as shares of the view."""
        return _letterboxed(self._image(index), self.boxes[index], input, augment)

    def located(self, index: int) -> tuple[Tensor, ...]:
        """Return an image [3, h, w], and what is seen of its boxes [n, 4], and the whole ones."""
        from kdx.data.geometry import boxes_on  # here: torchvision takes as long to import as torch

        image = self._image(index)
        return image, *boxes_on(self.boxes[index][:, 1:5], (image.shape[1], image.shape[2]))

    def fitted(
        self, index: int, parts: Sequence[Tensor], input: InputSpec, augment: Augment | None
    ) -> tuple[Tensor, Tensor]:
        """Return what a list left, letterboxed, as `view`."""
        from kdx.data.geometry import boxes_off

        image, cut, whole = parts
        boxes, seen = boxes_off(cut, whole, (image.shape[1], image.shape[2]))
        rows = self.boxes[index]
        rows = torch.cat([rows[:, :1], boxes, rows[:, 5:]], dim=1)
        return _letterboxed(image, rows[seen >= LEAST_SEEN], input, None)

    def _image(self, index: int) -> Tensor:
        return decode_annotated(self.paths[index], self.sizes[index] if self.sizes else None)


def _letterboxed(
    image: Tensor, rows: Tensor, input: InputSpec, augment: Augment | None
) -> tuple[Tensor, Tensor]:
    from kdx.data.geometry import place

    height, width = image.shape[1:]
    fit = min(input.hw[0] / height, input.hw[1] / width)
    placed = place((height, width), input.hw, scales=(fit, fit), augment=augment)
    boxes, seen = placed.boxes(rows[:, 1:5], (height, width))
    target = torch.cat([rows[:, :1], boxes, rows[:, 5:]], dim=1)
    if augment is not None:
        target = target[seen >= LEAST_SEEN]
    return placed.image(image, [GREY] * 3), target


def _unpacked(rows: Tensor, counts: list[int], paths: Sequence[str], *rest: Any) -> BoxImages:
    return BoxImages(paths, rows.split(counts), *rest)


def largest_classes(boxes: Sequence[Tensor], *, classes: int) -> Tensor:
    """Return the class of each image's largest box, [N] int64; `classes` if it has no box."""
    largest = [
        int(rows[(rows[:, 3] * rows[:, 4]).argmax(), 0]) if len(rows) else classes for rows in boxes
    ]
    return torch.tensor(largest, dtype=torch.int64)
