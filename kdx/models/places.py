"""The names of features: a module path, with the number of a call and a layout."""

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor

from kdx.models.layouts import is_layout
from kdx.util.words import listed


@dataclass(frozen=True)
class Place:
    """The name of a feature, taken apart: "layers.0", "relu:1" (a call), "layers.0:bhwc"."""

    module: str
    call: int | None = None
    layout: str | None = None


def place_of(path: str, known: Collection[str], role: str) -> Place:
    """Return a name taken apart; `known` are the paths of the network that is called `role`.

    ValueError for an unknown path, and for what is neither a call nor a layout.
    """
    known = [name for name in known if name]
    module, *rest = [path] if path in known else path.split(":")
    if module not in known:
        near = " or ".join(map(repr, get_close_matches(module, known, n=3)))
        message = f"the {role} has no module {module!r}."
        hint = f" Did you mean {near}?" if near else ""
        raise ValueError(f"{message}{hint} Known: {listed(known)}")
    call = int(rest.pop(0)) if rest and rest[0].isdecimal() else None
    layout = rest.pop(0) if rest and is_layout(rest[0]) else None
    if rest:
        raise ValueError(
            f"{path!r}: {rest[0]!r} is neither the number of a call nor a layout of the "
            f"letters bchw, bnc or bc: write {module!r}, '{module}:0' or '{module}:bhwc'"
        )
    return Place(module, call, layout)


def unclear(
    path: str, shape: tuple[int, ...], images: Tensor, *, role: str, named: str | None
) -> str:
    """Say what is unclear of an output of `shape` for images [B, C, H, W], and what to write.

    `named` is the layout that the name has, if any.
    """
    size = " x ".join(map(str, images.shape[2:]))
    found = f"output of the {role}'s {path!r}: {list(shape)} for {len(images)} images"
    if named:
        return f"the layout does not fit the {found}: one letter an axis, and b for the batch"
    if len(images) not in shape:
        return f"no axis is the batch in the {found}: choose another module"
    name = path + ":" + {3: "bnc", 4: "bhwc"}.get(len(shape), "bc")
    return (
        f"unclear layout of the {found} of {size}: images of other sizes do not show which "
        f"axis is the batch, which channels and which places. Append it, as in {name!r} (b "
        "batch, c channels, h height, w width, n tokens), or choose another module"
    )
