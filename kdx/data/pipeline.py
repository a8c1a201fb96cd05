"""A recipe's list of augmentations, applied to one image at a time. C: channels, H, W: pixels."""

from math import inf
from typing import Any

import torch
from torch import Tensor

from kdx.data.augment import Augment
from kdx.data.counter import Draw, seeded
from kdx.data.sources import found_in
from kdx.protocols import InputSpec, Key
from kdx.recipe.arguments import Component
from kdx.recipe.errors import each_of
from kdx.util.errors import reason

TRIALS = 32  # views that are made before a run: most arguments are used at random only


class Pipeline:
    """torchvision's transforms (v2), or a plug-in's, in the order of the recipe's list.

    Those that take a `size` get the input's (H, W) unless the recipe sets it. Raises RecipeError
    with all that refuse their arguments.
    """

    def __init__(self, augment: Augment, input: InputSpec) -> None:
        self.parts, self.size = augment.then, list(input.hw)
        self.steps = each_of(lambda part: _built(part, self.size), self.parts)

    def rehearse(self, image: Tensor) -> None:
        """Make 32 views of an image [C, h, w], uint8; ValueError as for a call."""
        for trial in range(TRIALS):
            self(image, (trial, 0), seed=0)

    def __call__(self, image: Tensor, key: Key, *, seed: int) -> Tensor:
        """Return the view [C, H, W] of an image [C, h, w], both uint8.

        It depends on image, seed and key only. If the list leaves another size than the input's,
        the image is resized to cover it, and its middle is taken. ValueError names an augmentation
        that fails, or returns anything but such an image.
        """
        image = image.clone()  # it may be the data set's own, and some work in place
        with seeded(seed, *key, Draw.LIST):
            for part, step in zip(self.parts, self.steps, strict=True):
                try:
                    made = step(image)
                except Exception as error:  # a plug-in may raise anything
                    raise ValueError(f"{_named(part)}: {reason(error)}") from error
                if not _is_image(made, len(image)):
                    wanted = f"a uint8 tensor [{len(image)}, H, W]"
                    raise ValueError(f"{_named(part)}: returned {found_in(made)}, not {wanted}")
                image = made
        return _fit(image, self.size)


def _built(part: Component, size: list[int]) -> Any:
    """Return what a part names; RecipeError also for numbers that torchvision takes, but misuses.

    A magnitude below 0 would count from the strongest, a `p` out of [0, 1] would be always or
    never.
    """
    step = part.build(size=size)
    if not type(step).__module__.startswith("torchvision."):
        return step
    strongest = getattr(step, "num_magnitude_bins", 1) - 1
    for name, low, high in (("p", 0, 1), ("magnitude", 0, strongest), ("mixture_width", 1, inf)):
        value = getattr(step, name, None)
        if isinstance(value, int | float) and not low <= value <= high:
            rule = f"from {low} to {high}" if high < inf else f"{low} or more"
            raise part.refusal(f"{name}: {value} must be {rule}")
    return step


def _fit(image: Tensor, size: list[int]) -> Tensor:
    from torchvision.transforms.v2 import functional  # here: it takes long to import

    if list(image.shape[1:]) == size:
        return image
    sides = list(zip(size, image.shape[1:], strict=True))
    zoom = max(want / have for want, have in sides)
    cover = [max(want, round(have * zoom)) for want, have in sides]
    return functional.center_crop(functional.resize(image, cover, antialias=True), size)


def _named(part: Component) -> str:
    return f"{part.place}: {part.where}: {part.use!r}"


def _is_image(made: object, channels: int) -> bool:
    if not isinstance(made, Tensor) or made.dtype != torch.uint8 or made.ndim != 3:
        return False
    return len(made) == channels and made.numel() > 0
