"""Changes to images, uint8 [B, C, H, W], by NumPy: it indexes bytes faster than torch."""

from collections.abc import Sequence
from functools import cache
from math import prod

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kdx.data.counter import Draw, integers, uniform
from kdx.protocols import InputSpec, Key
from kdx.recipe.arguments import Component
from kdx.recipe.data import Augment
from kdx.recipe.errors import each_of

PIXELS_ALONE = frozenset(
    {"AugMix", "AutoAugment", "RandAugment", "RandomErasing", "TrivialAugmentWide"}
)  # of torchvision's augmentations: they leave boxes and masks as they are, or refuse them


LARGE = 2**14  # bytes of an image, from which on torch mirrors it faster than NumPy
CACHED = 2**17  # numbers that stay in a core's cache


def check_list(kind: str, augment: Augment | None) -> None:
    """Raise RecipeError for all augmentations that would leave boxes or masks, a `kind`, behind."""

    def check(part: Component) -> None:
        if part.use in PIXELS_ALONE:
            instead = "use RandomPhotometricDistort, RandomAffine and others in its place"
            raise part.refusal(f"for images with a class, not {kind}: {instead}")

    each_of(check, augment.then if augment else ())


def check_changes(kind: str, augment: Augment | None, *, takes: Sequence[str]) -> None:
    """Raise ValueError for changes other than those that a kind of images `takes`."""
    if refused := [name for name in (augment.changes if augment else ()) if name not in takes]:
        takes = [name for name in takes if name != "then"]
        raise ValueError(f"augment.{', '.join(refused)}: {kind} take {', '.join(takes)}")


def augmented(images: Tensor, augment: Augment | None, keys: Sequence[Key], *, seed: int) -> Tensor:
    """Return the images, those of `keys`, cropped and flipped; their memory may be reused."""
    if augment is None:
        return images
    epochs, indices = np.array(keys, np.int64).T
    if padding := augment.crop:
        top, left = (
            integers(seed, epochs, indices, draw, 2 * padding + 1) for draw in (Draw.TOP, Draw.LEFT)
        )
        images = pad_and_crop(images, padding, top=top, left=left)
    if augment.flip:
        images = flip(images, uniform(seed, epochs, indices, Draw.FLIP) < 0.5)
    return images


def pad_and_crop(images: Tensor, padding: int, *, top: NDArray, left: NDArray) -> Tensor:
    """Return windows of the padded images, at corners `top`, `left` [B] in [0, 2 * padding]."""
    padded = functional.pad(images, (padding,) * 4).numpy()
    windows = sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    return torch.from_numpy(windows[np.arange(len(padded)), :, top, left])


def flip(images: Tensor, which: NDArray) -> Tensor:
    """Mirror left to right, in place, the images that `which` [B] (bool) marks."""
    if images[0].numel() > LARGE:
        for image in (images[row] for row in which.nonzero()[0]):
            image.copy_(image.flip(-1))
        return images
    pixels = images.numpy()
    pixels[which] = pixels[which][..., ::-1]
    return images


def to_pixels(images: Tensor, spec: InputSpec) -> Tensor:
    """Return the pixels, uint8, of images that are normalised as `spec`; rounded if need be."""
    mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (spec.mean, spec.std))
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def normalise(images: Tensor, spec: InputSpec, *, channels_last: bool = False) -> Tensor:
    """Return float32 [B, spec.channels, H, W]: (x / 255 - mean) / std; grey is repeated.

    On the images' device, in so small parts on the CPU that they stay in its cache.
    """
    channels_last &= spec.channels > 1  # of one channel both are the same, but convolutions differ
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape, device = (spec.channels, *images.shape[2:]), images.device
    made = torch.empty(len(images), *shape, device=device, memory_format=layout)
    width = shape[2] if channels_last else None  # a line of numbers at once, not three channels
    mean, scale = _constants(tuple(spec.mean), tuple(spec.std), width, device)
    rows = max(1, CACHED // prod(shape)) if device.type == "cpu" else len(images)
    for part, values in zip(images.split(rows), made.split(rows), strict=True):
        values.copy_(part)
        values = values.permute(0, 2, 3, 1).flatten(2) if channels_last else values
        values.sub_(mean).mul_(scale)
    return made


@cache
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], width: int | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / std of values in [0, 255], [C, 1, 1], or of `width` pixels, [W * C]."""
    shape = (-1,) if width else (-1, 1, 1)
    pair = torch.tensor(mean).mul(255), torch.tensor(std).mul(255).reciprocal()
    first, second = (each.repeat(width or 1).view(shape).to(device) for each in pair)
    return first, second
