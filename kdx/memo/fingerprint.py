"""What a teacher's outputs depend on, as one fingerprint, and why two of them differ."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from kdx.data import Augment, FileImages, Views
from kdx.data.digests import DIGITS, digest_of_images, digest_of_weights
from kdx.models.teacher import Teacher
from kdx.recipe.sections import MemoSection
from kdx.recipe.sections import Teacher as TeacherSection

FORMAT = 1
CROPS = 2  # of images: resized as bytes, not by Pillow as in kdx 0.1's first memos
FITTED = 2  # files that have the size of the view are not resized

Ingredients = Mapping[str, Any]  # values that JSON holds; long contents as digests


def settings(section: TeacherSection) -> MemoSection:
    """Return the memo that a recipe asks for, or the one by default, which rounds nothing."""
    return section.memo or MemoSection(views=1, dtype="float32")


def ingredients(
    section: TeacherSection, teacher: Teacher, views: Views, *, precision: str
) -> Ingredients:
    """Return all that a remembered output depends on; `precision` is what the teacher runs in.

    Reads every weight and, of image files, name, size and modification time.
    """
    memo, component = settings(section), section.component
    changes = (views.augment or Augment()).model_dump().items()  # older memos have no empty `then`
    data = {"samples": len(views), "content": digest_of_images(views.source)}
    kind = type(views.source)
    if not kind.__module__.startswith("kdx."):  # its views may be others than those of its base
        data["source"] = f"{kind.__module__}.{kind.__qualname__}"
    parts = {
        "format": FORMAT,
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm")},
        "teacher": {"use": component.use, **component.arguments},
        "weights": digest_of_weights(teacher.module),
        "teacher's input": asdict(teacher.own),
        "data": data,
        "input": asdict(views.input),
        "augment": {key: value for key, value in changes if key != "then" or value},
        "seed": views.seed if section.memo else None,  # by default views do not depend on it
        "views": memo.views,
        "dtype": memo.dtype,
        "top": memo.top,
        "precision": precision,
        "device": next((p.device.type for p in teacher.module.parameters()), "cpu"),
    }
    if views.augment and views.augment.resized_crop:
        parts["crops"] = CROPS
    elif isinstance(views.source, FileImages):
        parts["fitted"] = FITTED
    if views.mixing:
        own = ("mixup", "cutmix", "classes")  # not of targets, which a teacher does not see
        parts["mixing"] = {name: getattr(views.mixing, name) for name in own}
        if (labels := views.mixing.labels) is not None:  # which choose the partners
            parts["mixing"]["labels"] = hashlib.sha256(labels.numpy().tobytes()).hexdigest()[:32]
    return json.loads(json.dumps(parts, default=str))  # as it is read back


def fingerprint(parts: Ingredients) -> str:
    """Return the SHA-256 of the ingredients, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def differences(old: Ingredients, new: Ingredients) -> list[str]:
    """Name what differs, with the values: "augment changed (crop 4 -> 2)", "weights changed"."""
    return [
        f"{name} changed{_change(old.get(name), new.get(name))}"
        for name in {**new, **old}
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
    if any(isinstance(value, str) and len(value) == DIGITS for value in (old, new)):
        return ""  # digests
    texts = [value if isinstance(value, str) else json.dumps(value) for value in (old, new)]
    return f" {' -> '.join(texts)}"
