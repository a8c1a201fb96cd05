"""How images are prepared for a network in evaluation, as data and in words."""

from collections.abc import Mapping
from typing import Any

from kdx.protocols import ImageSource, InputSpec, Prepared

NONE = {"mode": None, "resize": None, "crop": None, "pad": None}


def preparation(source: ImageSource, input: InputSpec) -> dict[str, Any]:
    """Return all that makes the network's input of an image, as the exported file holds it.

    "mode": Pillow's mode, which is the order of the channels, too; "resize": to "shorter_side",
    "inside" or "exactly" so many pixels, with "interpolation", "antialias" and the library, but not
    an image of the size "unless_of"; "crop" and "pad" in the centre, sizes [H, W]; then
    (value / "scale" - "mean") / "std". What is not done is None. "by" names what prepares images
    that kdx does not know, and "transform" is the text of a Dataset's own.
    """
    known: Mapping[str, Any] = {"by": type(source).__name__}
    if isinstance(source, Prepared):
        known = source.preparation(input)
    normalised = {"scale": 255, "mean": list(input.mean), "std": list(input.std)}
    return NONE | dict(known) | {"size": list(input.hw), "layout": "CHW"} | normalised


def in_words(made: Mapping[str, Any]) -> str:
    """Say what `preparation` returned, in one sentence."""
    parts = [f"mode {made['mode']}"] if made["mode"] else []
    if resize := made["resize"]:
        to = {
            "shorter_side": "the shorter side resized to {} pixels",
            "inside": "resized to fit into {} pixels",
            "exactly": "resized to {} pixels, whatever the shape",
        }
        text = next(each.format(_size(resize[key])) for key, each in to.items() if key in resize)
        kind = "antialiased" if resize["antialias"] else "not antialiased"
        kept = f", unless it is {_size(resize['unless_of'])}" if "unless_of" in resize else ""
        parts.append(f"{text} ({resize['interpolation']}, {kind}, {resize['library']}){kept}")
    if crop := made["crop"]:
        parts.append(f"the middle {_size(crop['size'])} cropped")
    if pad := made["pad"]:
        parts.append(f"padded around it to {_size(pad['size'])} with {pad['value']}")
    if by := made.get("by"):
        parts.append(f"prepared by {by} {made.get('transform') or ''}".rstrip())
    elif not resize:
        parts.append(f"of {_size(made['size'])} pixels, not resized")
    return "; ".join(parts)


def _size(size: int | list[int]) -> str:
    return str(size) if isinstance(size, int) else " x ".join(map(str, size))
