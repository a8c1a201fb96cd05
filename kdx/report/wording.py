"""Parts of a recipe and numbers, in words."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any

from kdx.recipe.registry import allowed_modules

OF_IMAGES = ("top1", "top5", "agreement")
"""Metrics that are shares of the images, each right or wrong by itself."""


def flow(value: Any) -> str:
    """Return a value of a recipe on one line, as in YAML; null and empty ones are left out."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(each)}" for key, each in _given(value)) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow(each) for each in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def called(part: Any, *without: str) -> str:
    """Return what a part of a recipe uses, with its arguments: "smallnet (kernel_size: 3)"."""
    if not isinstance(part, Mapping):
        return flow(part)
    left_out = {"use", *without}
    inside = ", ".join(f"{key}: {flow(v)}" for key, v in _given(part) if key not in left_out)
    return f"{part.get('use', '')} ({inside})" if inside else str(part.get("use", ""))


def term(loss: Any) -> str:
    """Return a loss with its weight: "0.9 kd (temperature: 4)"."""
    if not isinstance(loss, Mapping):
        return flow(loss)
    weight = loss.get("weight", 1)
    if isinstance(weight, Mapping):
        first, last, epochs = (flow(weight.get(key)) for key in ("from", "to", "epochs"))
        weight = f"({first} to {last} over {epochs} epochs)"
    name = "" if loss.get("name") in (None, loss.get("use")) else f" as {loss['name']}"
    return f"{flow(weight)} {called(loss, 'weight', 'name')}{name}"


def plugins_of(recipe: Any) -> list[str]:
    """Return the packages, other than kdx's, that dotted names of a recipe come from."""
    if isinstance(recipe, list):
        return sorted({name for each in recipe for name in plugins_of(each)})
    found = {name for each in mapping(recipe).values() for name in plugins_of(each)}
    package, dot, _ = str(mapping(recipe).get("use", "")).partition(".")
    if dot and ":" not in package:
        found |= {package} - allowed_modules() - {"timm"}
    return sorted(found)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def entries(value: Any) -> list[Any]:
    """Return `value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def standard_error(share: float, n: int) -> float:
    """Return the standard error of a share of n independent images: sqrt(p (1 - p) / n)."""
    return sqrt(max(0.0, share * (1 - share)) / n)


def wilson(share: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the ends of Wilson's interval of a share of n images (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    variance = max(0.0, share * (1 - share)) / n + z * z / (4 * n * n)
    half = z * sqrt(variance) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _given(section: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the entries of a section that are not null or empty."""
    return [(str(key), value) for key, value in section.items() if value not in (None, "", [], {})]
