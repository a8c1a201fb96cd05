"""What a teacher's answers depend on, as one fingerprint, and why two of them differ."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from kdx.data import Augment, FileImages, MemoryImages, Views
from kdx.protocols import ImageSource
from kdx.recipe.sections import Teacher as TeacherSection
from kdx.teacher import Teacher

__all__ = ["Ingredients", "differences", "fingerprint", "ingredients"]

FORMAT = 1
DIGEST = 32  # hexadecimal digits

Ingredients = Mapping[str, Any]
"""Values that JSON holds, by the name of what they describe; long contents as digests."""


def ingredients(
    section: TeacherSection, teacher: Teacher, views: Views, *, precision: str
) -> Ingredients:
    """Return all that a remembered answer depends on. Reads every weight and training image.

    Of image files it reads name, size and time of change, not the content. `precision` is what
    the teacher runs in.
    """
    memo = section.memo
    assert memo is not None
    component = section.component
    return _as_json(
        {
            "format": FORMAT,
            "versions": {name: version(name) for name in ("torch", "torchvision", "timm")},
            "teacher": {"use": component.use, **component.arguments},
            "weights": _digest(lambda add: _add_weights(add, teacher.module)),
            "teacher's input": asdict(teacher.own),
            "data": {
                "samples": len(views),
                "content": _digest(lambda add: _add_images(add, views.source)),
            },
            "input": asdict(views.input),
            "augment": asdict(views.augment or Augment()),
            "seed": views.seed,
            "views": memo.views,
            "dtype": memo.dtype,
            "top": memo.top,
            "precision": precision,
            "device": next((p.device.type for p in teacher.module.parameters()), "cpu"),
        }
    )


def fingerprint(parts: Ingredients) -> str:
    """Return SHA-256 of the ingredients, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def differences(old: Ingredients, new: Ingredients) -> list[str]:
    """Name what differs, with the values: "augment changed (crop 4 -> 2)", "weights changed"."""
    return [
        f"{name} changed{_change(old.get(name), new.get(name))}"
        for name in [*new, *(name for name in old if name not in new)]
        if old.get(name) != new.get(name)
    ]


def _change(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        parts = [f"{name}{_values(old.get(name), new.get(name))}" for name in names]
        return f" ({', '.join(parts)})"
    shown = _values(old, new)
    return f" ({shown.strip()})" if shown else ""


def _values(old: Any, new: Any) -> str:
    if any(isinstance(value, str) and len(value) == DIGEST for value in (old, new)):
        return ""
    return f" {_plain(old)} -> {_plain(new)}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _as_json(value: Any) -> Any:
    """Return what reading the value back from JSON gives, so that the two compare equal."""
    return json.loads(json.dumps(value, default=str))


def _digest(feed: Callable[[Callable[[Any], None]], None]) -> str:
    sha = hashlib.sha256()
    feed(sha.update)
    return sha.hexdigest()[:DIGEST]


def _add_weights(add: Callable[[Any], None], module: nn.Module) -> None:
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            _add_tensor(add, name, value)
        else:  # a module's own extra state
            add(f"{name} {value!r}\n".encode())


def _add_tensor(add: Callable[[Any], None], name: str, value: Tensor) -> None:
    add(f"{name} {value.dtype} {list(value.shape)}\n".encode())
    add(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def _add_images(add: Callable[[Any], None], source: ImageSource) -> None:
    if isinstance(source, MemoryImages):
        return _add_tensor(add, "images", source.images)
    assert isinstance(source, FileImages), "views are of one kind or the other"
    shared = len(os.path.commonpath([os.path.dirname(path) for path in source.paths]))
    for path in source.paths:
        about = os.stat(path)
        add(f"{path[shared:]} {about.st_size} {about.st_mtime_ns}\n".encode())
    return None
