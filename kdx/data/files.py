"""Images with one label each, in files that are decoded when they are needed.

N: samples, B: batch, H x W: pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from kdx.data.augment import Augment, augmented, check_changes
from kdx.data.crops import center_crop, draw_numbers, resized_crop, resized_side
from kdx.data.decode import Crop, Header, decode, read_header
from kdx.data.sources import BILINEAR, check_lists, check_rgb, taken, view_of
from kdx.protocols import InputSpec, Key
from kdx.util.strings import packed

_REMEDY = (
    "Repair or remove it; image_folder, csv, hf and webdataset leave such images out with skip_bad"
)


class Files:
    """What sources of image files share: they are named by their paths."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Return the path of the image."""
        return self.paths[index]

    def view_size(self, input: InputSpec, augment: Augment | None) -> tuple[int, int]:
        """Return (H, W): the window's, if the augmentation has one, or the input's."""
        window = augment.window if augment else None
        return replace(input, size=window).hw if window else input.hw


class Content(Protocol):
    """Image files that are stored in others, under names."""

    @property
    def files(self) -> Sequence[str]:
        """The files that they are stored in."""
        ...

    def read(self, name: str) -> bytes:
        """Return the content of an image file; ValueError with its name if it cannot be read."""
        ...


@dataclass(eq=False)
class FileImages(Files):
    """Image files with labels [N] (int64), of any size; `center_crop` is what evaluation sees.

    With `content`, `paths` are names in it.
    """

    paths: Sequence[str]
    labels: Tensor
    content: Content | None = None

    def __post_init__(self) -> None:
        check_lists("image files", self.labels, paths=self.paths)
        self.paths = packed(self.paths)

    @property
    def files(self) -> Sequence[str]:
        """The images, or the files that they are stored in."""
        return self.paths if self.content is None else self.content.files

    def tensors(self, *, targets: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield the names of images that are stored in other files."""
        if self.content is not None and not targets:
            names = "\0".join(self.paths).encode(errors="surrogateescape")
            yield "names", torch.frombuffer(bytearray(names), dtype=torch.uint8)

    def subset(self, indices: Tensor) -> "FileImages":
        """Return the samples at `indices` [n], in that order."""
        return FileImages(taken(self.paths, indices), self.labels[indices], self.content)

    def relabelled(self, labels: Tensor) -> "FileImages":
        """Return the same images with other labels."""
        return replace(self, labels=labels)

    def check(self, input: InputSpec, augment: Augment | None) -> None:
        """Raise ValueError for an input that is not RGB or not square, and for other changes."""
        check_rgb("image files", input)
        if not isinstance(input.size, int):
            raise ValueError(f"image files are cropped to squares: an input of {input} is not one")
        check_changes("image files", augment, takes=("crop", "flip", "resized_crop", "then"))

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image [3, h, w] of its own size, uint8, and its label []."""
        return self._pixels(index), self.labels[index]

    def decoded(self, index: int, crop: Crop | None = None) -> Tensor:
        """Return an image [3, H, W], uint8, or what `crop` leaves of it; errors as `decode`."""
        return decode(self.paths[index], crop, self._stored(index))

    def header(self, index: int) -> Header:
        """Return the header of an image; errors as `read_header`."""
        return read_header(self.paths[index], content=self._stored(index))

    def _pixels(self, index: int, crop: Crop | None = None) -> Tensor:
        """Return the same as `decoded`; the error for a damaged file says what can be done."""
        try:
            return self.decoded(index, crop)
        except ValueError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise
            raise ValueError(f"{error}. {_REMEDY}") from error

    def _stored(self, index: int) -> bytes | None:
        return None if self.content is None else self.content.read(self.paths[index])

    def preparation(self, input: InputSpec) -> Mapping[str, Any]:
        """Return what `center_crop` does; see `kdx.data.preparation`."""
        resize = {"shorter_side": resized_side(input.hw[0]), "unless_of": list(input.hw)}
        resize |= {**BILINEAR, "library": "Pillow"}
        crop = {"size": list(input.hw), "at": "center"}
        return {"mode": "RGB", "resize": resize, "crop": crop}

    def views(
        self, keys: Sequence[Key], input: InputSpec, augment: Augment | None, *, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Return images [B, 3, H, W], uint8, and labels [B]."""
        size, scale = input.hw[0], augment.resized_crop if augment else None
        layout = torch.channels_last  # as pixels are decoded
        images = torch.empty(len(keys), *input.shape, dtype=torch.uint8, memory_format=layout)
        drawn = draw_numbers(seed, keys)
        for row, (_, index), numbers in zip(images, keys, drawn, strict=True):
            if scale is None:
                row.copy_(self._pixels(index, partial(center_crop, size=size)))
            else:
                row.copy_(resized_crop(self._pixels(index), size, scale=scale, numbers=numbers))
        pixels = augmented(images, augment, keys, seed=seed)
        return pixels, self.labels[[index for _, index in keys]]

    def view(self, index: int, input: InputSpec, augment: Augment | None) -> tuple[Tensor, Tensor]:
        """Return an image [3, H, W], uint8, and its label []."""
        return view_of(self.subset(torch.tensor([index])), input, augment)
