"""Images with one label each: in memory, or in files that are decoded when they are needed.

N: samples, B: batch, C: channels, H x W: pixels.
"""

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from kdx.data.augment import Augment, augmented, check_changes
from kdx.data.crops import center_crop, draw_numbers, resized_crop, resized_side
from kdx.data.decode import Crop, Header, decode, read_header
from kdx.protocols import Batched, InputSpec, Key
from kdx.util.strings import packed

T = TypeVar("T")
BILINEAR = {"interpolation": "bilinear", "antialias": True}


@dataclass(eq=False)
class MemoryImages:
    """Images [N, C, H, W] (uint8) with labels [N] (int64); errors quote `origin` and `numbers`.

    `numbers` [N] are the samples' indices in the original data set, 0..N-1 by default.
    """

    images: Tensor
    labels: Tensor
    origin: str
    numbers: Tensor | None = None

    def __post_init__(self) -> None:
        if not _is(self.images, torch.uint8, 4):
            needed = f"images must be a uint8 tensor [N, C, H, W], not {found_in(self.images)}"
            raise ValueError(
                f"{self.origin}: {needed}; scale them to 0..255, round and convert them"
            )
        check_lists(self.origin, self.labels, images=self.images)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def files(self) -> Sequence[str]:
        """None: see `tensors`."""
        return ()

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image [C, H, W], the set's own memory, and its label []."""
        return self.images[index], self.labels[index]

    def tensors(self, *, targets: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield the images."""
        yield from () if targets else [("images", self.images)]

    def name(self, index: int) -> str:
        """Return which sample this is: "cifar10 train[17]"."""
        number = index if self.numbers is None else int(self.numbers[index])
        return f"{self.origin}[{number}]"

    def subset(self, indices: Tensor) -> "MemoryImages":
        """Return the samples at `indices` [n], in that order, with unchanged names."""
        numbers = indices if self.numbers is None else self.numbers[indices]
        return MemoryImages(self.images[indices], self.labels[indices], self.origin, numbers)

    def relabelled(self, labels: Tensor) -> "MemoryImages":
        """Return the same images with other labels."""
        return replace(self, labels=labels)

    def check(self, input: InputSpec, augment: Augment | None) -> None:
        """Raise ValueError for an input of another size, and for changes other than these two."""
        _, channels, height, width = self.images.shape
        if channels not in (1, input.channels) or (height, width) != input.hw:
            found = f"images of {channels} x {height} x {width}"
            raise ValueError(f"{self.origin}: {found} do not fit an input of {input}")
        check_changes("images in memory", augment, takes=("crop", "flip", "then"))

    def view_size(self, input: InputSpec, augment: Augment | None) -> tuple[int, int]:
        """Return (H, W), the input's."""
        return input.hw

    def preparation(self, input: InputSpec) -> Mapping[str, Any]:
        """Return that images are taken as they are; see `kdx.data.preparation`."""
        return {"mode": {1: "L", 3: "RGB"}.get(self.images.shape[1])}

    def views(
        self, keys: Sequence[Key], input: InputSpec, augment: Augment | None, *, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Return images [B, C, H, W], uint8, and labels [B]."""
        indices = torch.tensor([index for _, index in keys])
        pixels = self.images.index_select(0, indices)
        return augmented(pixels, augment, keys, seed=seed), self.labels[indices]

    def view(self, index: int, input: InputSpec, augment: Augment | None) -> tuple[Tensor, Tensor]:
        """Return an image [C, H, W], uint8, and its label []."""
        return _view(self.subset(torch.tensor([index])), input, augment)


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
        return self.decoded(index), self.labels[index]

    def decoded(self, index: int, crop: Crop | None = None) -> Tensor:
        """Return an image [3, H, W], uint8, or what `crop` leaves of it; errors as `decode`."""
        return decode(self.paths[index], crop, self._stored(index))

    def header(self, index: int) -> Header:
        """Return the header of an image; errors as `read_header`."""
        return read_header(self.paths[index], content=self._stored(index))

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
                row.copy_(self.decoded(index, partial(center_crop, size=size)))
            else:
                row.copy_(resized_crop(self.decoded(index), size, scale=scale, numbers=numbers))
        pixels = augmented(images, augment, keys, seed=seed)
        return pixels, self.labels[[index for _, index in keys]]

    def view(self, index: int, input: InputSpec, augment: Augment | None) -> tuple[Tensor, Tensor]:
        """Return an image [3, H, W], uint8, and its label []."""
        return _view(self.subset(torch.tensor([index])), input, augment)


def check_lists(origin: str, labels: Tensor, **lists: Sized) -> None:
    """Raise ValueError unless labels are an int64 tensor [N], and the lists of that length."""
    if not _is(labels, torch.int64, 1):
        raise ValueError(f"{origin}: labels must be an int64 tensor [N], not {found_in(labels)}")
    lengths = {name: len(each) for name, each in {"labels": labels, **lists}.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length:,} {name}" for name, length in lengths.items())
        raise ValueError(f"{origin}: lengths differ: {found}")


def taken(items: Sequence[T], indices: Tensor) -> list[T]:
    """Return the items at `indices` [n], in that order."""
    return [items[int(i)] for i in indices.tolist()]


def check_rgb(kind: str, input: InputSpec) -> None:
    """Raise ValueError unless an input takes RGB."""
    if input.channels != 3:
        raise ValueError(f"{kind} are RGB, and do not fit an input of {input}")


def _view(source: Batched, input: InputSpec, augment: Augment | None) -> tuple[Tensor, Tensor]:
    """Return a view of the only sample, which torch's generator chooses: `ImageSource.view`."""
    seed = 0 if augment is None else int(torch.randint(2**62, ()))
    images, targets = source.views([(0, 0)], input, augment, seed=seed)
    return images[0], targets[0]


def _is(value: Any, dtype: torch.dtype, dimensions: int) -> bool:
    return isinstance(value, Tensor) and value.dtype == dtype and value.ndim == dimensions


def found_in(value: object) -> str:
    """Return type and shape of an unfit value, and its first NaN or Inf."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    bad = value.isfinite().logical_not().nonzero()
    where = f" with {value[tuple(bad[0])]} in sample {int(bad[0, 0])}" if bad.numel() else ""
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}{where}"
