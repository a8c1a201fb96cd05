"""Which axis of a feature is which, found by running the network on images of other sizes.

Letters: b batch, c channels, h and w height and width, n tokens. A layout is the letters of the
axes in their order: "bchw", "bhwc", "bnc", "nbc".
"""

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn.functional import interpolate

from kdx.losses.align import MAX_LEADING

LAYOUTS = {1: "b", 2: "bc", 3: "bnc", 4: "bchw"}  # by rank, as losses read features
POSSIBLE = {3: ("bnc", "bcn"), 4: ("bchw", "bhwc")}  # if no other size tells
AXES = {"b": "b", "h": "h", "w": "w", "hw": "n", "": "c"}  # by what an axis changes with

Shapes = Mapping[str, tuple[int, ...]]  # of features, by their names


def find_layouts(
    shapes: Shapes,
    images: Tensor,
    run: Callable[[Tensor], Shapes],
    *,
    widths: Mapping[str, set[int]],
) -> dict[str, str | None]:
    """Return the layouts of features by name; None if they stay unclear.

    `shapes` are theirs for `images` [B, C, H, W]. `run` returns those for other images, as far as
    the network gets with them: it is called with another batch, with taller and wider images.
    `widths` are the lengths of the vectors of parameters (biases, norms) in a feature's module.
    """
    (batch, _, height, width), count = images.shape, 3 if len(images) == 2 else 2
    other = images[:1].repeat(count, 1, 1, 1)
    probes = [
        other,
        interpolate(other, (2 * height, width)),
        interpolate(other, (height, 2 * width)),
    ]
    found = [run(probe) for probe in probes]
    return {
        name: _layout(shape, [p.get(name) for p in found], (batch, height, width), widths[name])
        for name, shape in shapes.items()
    }


def order(layout: str) -> list[int]:
    """Return the axes in the order in which losses read them; [0, 3, 1, 2] for "bhwc"."""
    return [layout.index(letter) for letter in LAYOUTS.get(len(layout), layout)]


def is_layout(text: str) -> bool:
    """Return whether `text` has the letters of a rank, in any order."""
    return bool(text) and sorted(text) == sorted(LAYOUTS.get(len(text), ""))


def _layout(
    shape: tuple[int, ...],
    probes: list[tuple[int, ...] | None],
    image: tuple[int, int, int],
    widths: set[int],
) -> str | None:
    small, tall, wide = (p if p and len(p) == len(shape) else None for p in probes)
    small = small or (*(-1 if n == image[0] and not i else n for i, n in enumerate(shape)),)
    changes = {"b": (shape, small), "h": (small, tall or small), "w": (small, wide or small)}
    axes = range(len(shape))
    moved = ["".join(k for k, (a, b) in changes.items() if a[i] != b[i]) for i in axes]
    letters = "".join(AXES.get(each, "?") for each in moved)
    if len(shape) not in POSSIBLE and letters.startswith("b"):
        return LAYOUTS.get(len(shape), "b12345678"[: len(shape)])
    if is_layout(letters):
        return letters
    possible = [  # axes "c" are those that no probe has changed
        each
        for each in POSSIBLE.get(len(shape), ())
        if all(found in (letter, "c") for found, letter in zip(letters, each, strict=True))
    ]
    if len(possible) > 1:
        one_size = tall is None and wide is None
        possible = [p for p in possible if _fits(dict(zip(p, shape, strict=True)), image, one_size)]
        if one_size and possible == ["bcn"]:  # also the channels of what are no patches
            return None
    if len(possible) > 1:
        possible = [each for each in possible if shape[each.index("c")] in widths]
    return possible[0] if len(possible) == 1 else None


def _fits(sizes: Mapping[str, int], image: tuple[int, int, int], one_size: bool) -> bool:
    """Return whether height and width, or tokens, can be those of a grid on the image.

    If the network takes `one_size`, the grid is of whole patches. Else the grid does not change
    with the size of the image, as behind an adaptive pool.
    """
    _, height, width = image
    if "n" in sizes:
        sides = [p for p in range(1, height + 1) if height % p == 0 == width % p]
        grids = [(height // p) * (width // p) for p in sides] if one_size else []
        return sizes["n"] == 1 or any(0 <= sizes["n"] - grid <= MAX_LEADING for grid in grids)
    h, w = sizes["h"], sizes["w"]
    has_shape = h * width == w * height
    return has_shape and height % h == 0 if one_size else has_shape or h == w
