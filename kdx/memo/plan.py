"""What a memo will hold, before any of it exists. K: views, N: samples."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdx.data import Views
from kdx.memo.fingerprint import Ingredients, differences, fingerprint, ingredients
from kdx.memo.rows import Codec, TopK, Whole
from kdx.memo.store import CHECK, count
from kdx.models.teacher import Teacher
from kdx.protocols import Outputs
from kdx.recipe import Recipe
from kdx.recipe.sections import MemoSection
from kdx.util.words import in_bytes

__all__ = ["LOGITS", "Plan", "about", "feature", "make_plan", "readable"]

LOGITS = "logits"
GB = 10**9


@dataclass(frozen=True)
class Plan:
    """A memo that may exist already, in part or in full.

    `codecs` are the rows of its outputs by name: "logits", "feature.<module path>". `limit` is
    in bytes. `unlike` is what differs from the nearest other memo, where this one is new.
    """

    directory: Path
    parts: Ingredients
    samples: int
    views: int
    codecs: Mapping[str, Codec]
    limit: float
    unlike: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N)."""
        return self.views, self.samples

    def size(self, codecs: Mapping[str, Codec] | None = None) -> int:
        """Return the bytes of a full memo, with other codecs where given."""
        row = sum(codec.width + CHECK.itemsize for codec in (codecs or self.codecs).values())
        return self.views * self.samples * row

    def filled(self) -> float:
        """Return the share of its rows that are on disk, by their checksums; none is verified."""
        return float(self.filled_views().mean())

    def filled_views(self) -> NDArray[np.float64]:
        """Return that share for each view, [K]."""
        there = np.ones(self.shape, bool)
        for name, codec in self.codecs.items():
            there &= count(self.directory, name, shape=self.shape, width=codec.width)
        return there.mean(1)

    def __str__(self) -> str:
        """Say what it holds, how large it is, and where."""
        limit = f"{in_bytes(self.size())} of at most {in_bytes(self.limit)}"
        return f"{self.rows()}: {limit}, at {self.directory}"

    def rows(self) -> str:
        """Say what it holds: "64 samples x 2 views x (10 logits + 64 of fc1) in float16"."""
        outputs = " + ".join(
            f"{codec} logits" if name == LOGITS else f"{codec} of {name.partition('.')[2]}"
            for name, codec in self.codecs.items()
        )
        views = f"{self.views} view{'s' * (self.views > 1)}"
        return f"{self.samples:,} samples x {views} x ({outputs}) in {self.parts['dtype']}"


def make_plan(recipe: Recipe, teacher: Teacher, views: Views, *, precision: str) -> Plan:
    """Plan the memo of a recipe that has one, for a teacher whose features are tapped.

    `precision` is what the teacher runs in. Asks the teacher once, for the shapes. Raises
    ValueError for a `top` that is too large, or of answers other than [B, C], and for a feature
    whose first dimension is not the batch.
    """
    section = recipe.teacher
    assert section is not None
    assert section.memo is not None
    parts = ingredients(section, teacher, views, precision=precision)
    directory = recipe.memos_dir / fingerprint(parts)[:16]
    return Plan(
        directory=directory,
        parts=parts,
        samples=len(views),
        views=section.memo.views,
        codecs=_codecs(_probe(teacher, views), section.memo),
        limit=section.memo.limit * GB,
        unlike=_unlike(recipe.memos_dir, parts) if not about(directory).exists() else (),
    )


def about(directory: Path) -> Path:
    """Return the file that describes the memo in a directory."""
    return directory / "memo.json"


def readable(directory: Path) -> dict[str, Any] | None:
    """Return what the memo in a directory says of itself; None where that is ill-formed."""
    try:
        found = json.loads(about(directory).read_text())
        is_memo = isinstance(found["ingredients"], dict) and isinstance(found["outputs"], dict)
        return found if is_memo else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def feature(path: str) -> str:
    """Return the name of the output that is the feature at a module path."""
    return f"feature.{path}"


def _probe(teacher: Teacher, views: Views) -> Outputs:
    images, _, _ = views.__getitems__([(0, index) for index in range(min(2, len(views)))])
    device = next((p.device for p in teacher.module.parameters()), images.device)
    outputs = teacher(images.to(device))
    for path, value in outputs.features.items():
        if value.ndim == 0 or len(value) != len(images):
            raise ValueError(
                f"teacher.memo: the teacher's {path!r} answers {len(images)} images with "
                f"{list(value.shape)}: its first dimension is not the batch, so it cannot be "
                "remembered by sample"
            )
    return outputs


def _codecs(outputs: Outputs, memo: MemoSection) -> dict[str, Codec]:
    shape = tuple(outputs.logits.shape[1:])
    codecs: dict[str, Codec] = {LOGITS: Whole(shape, memo.dtype)}
    if memo.top is not None:
        if len(shape) != 1:
            raise ValueError(
                f"teacher.memo.top: {memo.top}, but the teacher's answer to an image is "
                f"{codecs[LOGITS]} and not a logit for each class: leave it out"
            )
        codecs[LOGITS] = TopK(*shape, memo.top, memo.dtype)
    for path, value in outputs.features.items():
        codecs[feature(path)] = Whole(tuple(value.shape[1:]), memo.dtype)
    return codecs


def _unlike(directory: Path, parts: Ingredients) -> tuple[str, ...]:
    """What differs from the memo that differs least; empty where there is none."""
    others = [readable(path.parent) for path in sorted(directory.glob("*/memo.json"))]
    changes = [differences(other["ingredients"], parts) for other in others if other]
    return tuple(min(changes, key=len, default=()))
