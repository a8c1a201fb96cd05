"""An image file to its pixels, or a mask file to its ids.

Pixels are those of torchvision's ImageFolder (`Image.convert("RGB")`): grey and palette become
RGB, alpha is dropped, CMYK is converted without a profile, of an animation the first frame is
taken, and EXIF orientation is ignored, except where boxes or a mask say how an image lies: see
`Header`. Of 16 bits a channel in colour the upper 8 are kept. Images
of one 16-bit, 32-bit or float channel (modes I;16, I and F) are refused: the range of their values
is unknown, and `convert` would clip them at 255.

Masks are images of one channel of 8 bits (modes L and P), read as they are, or RGB with the id of
a segment in each pixel.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from torch import Tensor

from kdx.util.words import listed

_TURNS = {  # of EXIF orientations, for those that swap height and width
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

MASKS, SEGMENTS = ("L", "P"), ("RGB",)  # Pillow's modes of masks

_RGB = 3  # of torchvision's ImageReadMode

Crop = Callable[[Image.Image], Image.Image]
Size = tuple[int, int]  # (H, W)


class Header(NamedTuple):
    """An image's size as it is decoded, and its EXIF orientation: 1, or 2 to 8 if it has one."""

    size: Size
    orientation: int

    def annotated(self, given: Size | None) -> Size:
        """Return the size (H, W) that annotations of an image of the size `given` assume.

        It is the size as decoded or as turned by the orientation. ValueError where the two cannot
        be told apart: both are the same, or none is given.
        """
        height, width = self.size
        if self.orientation == 1:
            return self.size
        if self.orientation in _TURNS and height != width and given is not None:
            return (width, height) if given == (width, height) else self.size
        raise ValueError(
            f"EXIF orientation {self.orientation}: whether boxes or masks are of the turned image "
            "or of the stored one cannot be told from sizes. If of the turned one, turn its "
            "pixels (mogrify -auto-orient); if not, remove the tag (exiftool -Orientation=)"
        )


def decode(path: str, crop: Crop | None = None, content: bytes | None = None) -> Tensor:
    """Return the image in a file, or what `crop` leaves of it, uint8 [3, H, W].

    `content` is that of a file that `path` only names. Raises ValueError naming a file that is
    missing, damaged, not an image, or not of 8 bits.
    """
    with _opened(path, "the image cannot be decoded: ", content=content) as image:
        if crop is None and (pixels := _of_jpeg(image)) is not None:
            return pixels
        rgb = image.convert("RGB")
        return _pixels(crop(rgb) if crop else rgb)


def decode_annotated(path: str, given: Size | None) -> Tensor:
    """Return the image as its annotations, of the size `given`, assume it; errors also as `Header`.

    That is turned by its EXIF orientation if the size then fits.
    """
    with _opened(path, "the image cannot be decoded: ") as image:
        header = _header(image)
        turned = header.annotated(given) != header.size
        if not turned and (pixels := _of_jpeg(image)) is not None:
            return pixels
        rgb = image.convert("RGB")
        return _pixels(rgb.transpose(_TURNS[header.orientation]) if turned else rgb)


def decode_mask(path: str) -> Tensor:
    """Return the ids in a mask's file, uint8 [H, W]; of a palette, its indices.

    Raises ValueError as `decode`, and for more than one channel or another depth than 8 bits.
    """
    with _opened(path, "the mask cannot be decoded: ", modes=MASKS) as image:
        return torch.from_numpy(np.array(image))


def decode_segments(path: str, segments: NDArray[np.int64]) -> Tensor:
    """Return the numbers of the segments of a mask's pixels, uint8 [H, W], from an RGB file.

    A pixel's segment is R + 256 G + 65536 B; `segments` [n, 2] are ids, in order, and numbers.
    ValueError for segments that are not among them, and as `decode`.
    """
    with _opened(path, "the mask cannot be decoded: ", modes=SEGMENTS) as image:
        pixels = np.array(image).astype(np.int32) @ np.array([1, 256, 256**2], np.int32)
    ids, numbers = segments.T
    rows = np.searchsorted(ids, pixels).clip(max=len(ids) - 1)
    if len(unknown := np.unique(pixels[ids[rows] != pixels])):
        names = listed([f"{each}" for each in unknown.tolist()])
        raise ValueError(f"{path}: unknown segments {names}: not in its segments_info")
    return torch.from_numpy(numbers[rows].astype(np.uint8))


def read_header(path: str, *, modes: Sequence[str] = (), content: bytes | None = None) -> Header:
    """Return what the file's header says; ValueError as `decode` or, for `modes`, a mask's."""
    with _opened(path, modes=modes, content=content) as image:
        return _header(image)


def read_annotated(path: str, given: Size | None) -> tuple[Header, Size]:
    """Return the header, and the size that annotations assume; errors also as `Header`."""
    with _opened(path) as image:
        header = _header(image)
        return header, header.annotated(given)


@cache
def suffixes() -> frozenset[str]:
    """Return the suffixes, as ".png", of the image formats that Pillow can read."""
    formats = Image.registered_extensions()
    images = {kind for kind in Image.OPEN if Image.MIME.get(kind, "").startswith("image/")}
    return frozenset(suffix for suffix, kind in formats.items() if kind in images)


@contextmanager
def _opened(
    path: str, problem: str = "", *, modes: Sequence[str] = (), content: bytes | None = None
) -> Iterator[Image.Image]:
    """Open an image, or a mask; ValueError names the file, also for errors while it is used."""
    try:
        if content is None and os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("not a regular file")  # a pipe would be waited for
        with Image.open(path if content is None else BytesIO(content)) as image:
            mode = image.mode
            if modes and mode not in modes:
                wanted = {MASKS: "of one channel of 8 bits, an id for each pixel", SEGMENTS: "RGB"}
                raise ValueError(f"mode {mode} is not {wanted[tuple(modes)]}")
            if modes:
                _header(image).annotated(None)
            if mode.startswith(("I", "F")):
                clipped = "more than 8 bits, which would be clipped"
                raise ValueError(f"mode {mode} has {clipped}: scale it to 8 bits")
            yield image
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"{path}: {problem}{_reason(path, error, content)}") from error


def _header(image: Image.Image) -> Header:
    """Return size and orientation; Pillow's TIFFs are turned already, and turned back by it."""
    try:
        orientation = int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF can raise anything, and is ignored by viewers
        orientation = 1
    if image.format == "TIFF":
        orientation = {6: 8, 8: 6}.get(orientation, orientation)
    return Header((image.height, image.width), orientation if 2 <= orientation <= 8 else 1)


def _of_jpeg(image: Image.Image) -> Tensor | None:
    """Return the pixels [3, H, W] of an opened JPEG; None if Pillow has to decode the image."""
    file = image.fp if isinstance(image, ImageFile) else None
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L") or file is None:
        return None
    if (decoder := _jpeg_decoder()) is None:
        return None
    file.seek(0)
    content = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    try:
        return decoder(content, _RGB)
    except RuntimeError:  # it is damaged, and Pillow says why
        return None


@cache
def _jpeg_decoder() -> Callable[[Tensor, int], Tensor] | None:
    """Return torchvision's decoder, if it has one: its pixels are Pillow's, a quarter sooner.

    It is called as an operator, since its function warns: it may be removed after 0.29.
    """
    try:
        importlib.import_module("torchvision.io")  # here: it takes long to import
        return torch.ops.image.decode_jpeg
    except (ImportError, AttributeError):
        return None


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _reason(path: str, error: Exception, content: bytes | None) -> str:
    if isinstance(error, UnidentifiedImageError):
        size = os.path.getsize(path) if content is None else len(content)
        return "not an image" if size else "the file is empty"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
