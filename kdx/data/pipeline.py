"""A recipe's list of augmentations, applied to one image at a time, and to what lies on it.

C: channels, H, W: pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import torch
from torch import Tensor

from kdx.data.augment import Augment
from kdx.data.counter import Draw, seeded
from kdx.data.sources import found_in
from kdx.protocols import Key
from kdx.recipe.arguments import Component
from kdx.recipe.errors import each_of
from kdx.util.errors import reason

TRIALS = 32  # views that are made before a run: most arguments are used at random only


class Pipeline:
    """torchvision's transforms (v2), or a plug-in's, in the order of the recipe's list.

    Those that take a `size` get that of the views, (H, W), unless the recipe sets it. Raises
    RecipeError with all that refuse their arguments.
    """

    def __init__(self, augment: Augment, size: tuple[int, int]) -> None:
        self.parts, self.size = augment.then, list(size)
        self.steps = each_of(lambda part: _built(part, self.size), self.parts)

    def rehearse(self, sample: Sequence[Tensor]) -> None:
        """Make 32 views of a sample, as of `applied`; ValueError as there."""
        for trial in range(TRIALS):
            self.applied(sample, (trial, 0), seed=0)

    def fit(self, image: Tensor, *, shorter: int | None = None) -> Tensor:
        """Return the middle [C, H, W] of an image [C, h, w] that is resized to cover the view.

        Or to so many pixels of its `shorter` side. An image of the view's size stays as it is.
        """
        from torchvision.transforms.v2 import functional  # here: it takes long to import

        if list(image.shape[1:]) == self.size:
            return image
        if shorter:
            cover = [have * shorter // min(image.shape[1:]) for have in image.shape[1:]]
        else:
            sides = list(zip(self.size, image.shape[1:], strict=True))
            zoom = max(want / have for want, have in sides)
            cover = [max(want, round(have * zoom)) for want, have in sides]
        return functional.center_crop(functional.resize(image, cover, antialias=True), self.size)

    def applied(self, sample: Sequence[Tensor], key: Key, *, seed: int) -> Sequence[Tensor]:
        """Return what the list makes of an image [C, h, w], uint8, and of `tv_tensors` on it.

        It depends on sample, seed and key only. ValueError names an augmentation that fails, or
        returns anything but such an image and as many boxes, or a mask, of its size.
        """
        sample = [sample[0].clone(), *sample[1:]]  # it may be the data set's own
        with seeded(seed, *key, Draw.LIST):
            for part, step in zip(self.parts, self.steps, strict=True):
                try:
                    made = step(*sample)
                except Exception as error:  # a plug-in may raise anything
                    raise ValueError(f"{_named(part)}: {reason(error)}") from error
                made = list(made) if isinstance(made, tuple | list) else [made]
                if lack := _lack(made, sample):
                    raise ValueError(f"{_named(part)}: returned {lack}")
                sample = made
        return sample


def _built(part: Component, size: list[int]) -> Callable[..., Any]:
    """Return what a part names; RecipeError also for numbers that torchvision takes, but misuses.

    A magnitude below 0 would count from the strongest, a `p` out of [0, 1] would be always or
    never.
    """
    step = part.build(size=size)
    if "fill" in part.arguments and type(step).__module__.startswith("torchvision."):
        from kdx.data.geometry import Ids  # here: torchvision takes as long to import as torch

        others = {name: value for name, value in part.arguments.items() if name != "fill"}
        fill = {Ids: 0, "others": part.arguments["fill"]}  # of images is no class of masks
        step = replace(part, arguments=others).build(size=size, fill=fill)
    if not type(step).__module__.startswith("torchvision."):
        return step
    strongest = getattr(step, "num_magnitude_bins", 1) - 1
    for name, low, high in (("p", 0, 1), ("magnitude", 0, strongest), ("mixture_width", 1, inf)):
        value = getattr(step, name, None)
        if isinstance(value, int | float) and not low <= value <= high:
            rule = f"from {low} to {high}" if high < inf else f"{low} or more"
            raise part.refusal(f"{name}: {value} must be {rule}")
    return step


def _named(part: Component) -> str:
    return f"{part.place}: {part.where}: {part.use!r}"


def _lack(made: Sequence[Any], sample: Sequence[Tensor]) -> str:
    """Say what is wrong with what an augmentation made of a sample; empty if nothing is."""
    image, channels = made[0], len(sample[0])
    is_bytes = isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3
    if not is_bytes or len(image) != channels or not image.numel():
        return f"{found_in(image)}, not a uint8 tensor [{channels}, H, W]"
    kinds, wanted = ([type(each).__name__ for each in parts[1:]] for parts in (made, sample))
    if kinds != wanted:
        return f"{' and '.join(['an image', *kinds])}, not {' and '.join(['an image', *wanted])}"
    from torchvision.transforms.v2 import functional  # here: it takes long to import

    sizes = [functional.get_size(each) for each in made]
    if sizes.count(sizes[0]) < len(sizes):
        return f"parts of different sizes: {sizes}"
    if any(a.ndim == 2 and len(a) != len(b) for a, b in zip(made[1:], sample[1:], strict=True)):
        return "another number of boxes: those that are cut off are left out in the end"
    return ""
