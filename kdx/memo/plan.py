"""What a memo will hold, before any of it exists, and whether it fits. K: views, N: samples."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdx.data import Views
from kdx.memo.fingerprint import Ingredients, differences, fingerprint, ingredients, settings
from kdx.memo.rows import Codec, TopK, Whole
from kdx.memo.store import CHECK, count, files
from kdx.models.teacher import Teacher
from kdx.protocols import Outputs
from kdx.recipe.sections import MemoSection
from kdx.recipe.sections import Teacher as TeacherSection
from kdx.util.words import counted, in_bytes

ABOUT = "memo.json"
LOGITS = "logits"


@dataclass(frozen=True)
class Plan:
    """A memo that may exist already, in part or in full.

    `codecs` are the rows of its outputs by name: "logits", "feature.<module path>". `limit` is
    in bytes. `unlike` is what differs from the nearest other memo, if this one is new. `asked`:
    by the recipe, not by default. `key` is the recipe's, for errors.
    """

    directory: Path
    parts: Ingredients
    samples: int
    views: int
    codecs: Mapping[str, Codec]
    limit: float
    unlike: tuple[str, ...] = ()
    asked: bool = True
    key: str = "teacher.memo"

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N)."""
        return self.views, self.samples

    def size(self, codecs: Mapping[str, Codec] | None = None) -> int:
        """Return the bytes of a full memo, with other codecs if given."""
        row = sum(codec.width + CHECK.itemsize for codec in (codecs or self.codecs).values())
        return self.views * self.samples * row

    def filled(self) -> float:
        """Return the share of its rows that are on disk, by their checksums, unverified."""
        return float(self.filled_views().mean())

    def filled_views(self) -> NDArray[np.float64]:
        """Return that share for each view, [K]."""
        there = np.ones(self.shape, bool)
        for name, codec in self.codecs.items():
            there &= count(self.directory, name, shape=self.shape, width=codec.width)
        return there.mean(1)

    def rows(self) -> str:
        """Return what it holds: "64 samples x 2 views x (10 logits + 64 of fc1) in float16"."""
        outputs = " + ".join(
            f"{codec} logits" if name == LOGITS else f"{codec} of {name.partition('.')[2]}"
            for name, codec in self.codecs.items()
        )
        shape = f"{counted(self.samples, 'sample')} x {counted(self.views, 'view')}"
        return f"{shape} x ({outputs}) in {self.parts['dtype']}"

    def __str__(self) -> str:
        sizes = f"{in_bytes(self.size())} of at most {in_bytes(self.limit)}"
        full = f"{int(100 * self.filled())}% filled"
        return f"{self.rows()}: {sizes}, at {self.directory}; {full}"


def make_plan(
    section: TeacherSection, teacher: Teacher, views: Views, *, directory: Path, precision: str
) -> Plan:
    """Plan a memo below `directory`; runs the teacher, in `precision`, once for the shapes.

    Raises ValueError for a `top` that is too large, or of outputs other than [B, C].
    """
    memo = settings(section)
    parts = ingredients(section, teacher, views, precision=precision)
    memos, directory = directory, directory / fingerprint(parts)[:16]
    is_new = section.memo and not (directory / ABOUT).exists()
    return Plan(
        directory=directory,
        parts=parts,
        samples=len(views),
        views=memo.views,
        codecs=_codecs(_probe(teacher, views), memo, f"{section.component.where}.memo.top"),
        limit=memo.limit * 10**9,
        unlike=_unlike(memos, parts) if is_new else (),
        asked=bool(section.memo),
        key=f"{section.component.where}.memo",
    )


def check_room(plan: Plan) -> None:
    """Raise ValueError, with what would fit, if a full memo exceeds its limit or the free space."""
    if plan.size() > plan.limit:
        bound = f"over the limit of {in_bytes(plan.limit)} ({plan.key}.limit, in GB)"
        raise ValueError(_too_large(plan, bound, plan.limit))
    above = (plan.directory.absolute(), *plan.directory.absolute().parents)
    place = next(path for path in above if path.exists())
    free = shutil.disk_usage(place).free
    for name, codec in plan.codecs.items():
        for path, _ in files(plan.directory, name, plan.shape, codec.width):
            if path.exists():  # what it takes already is not needed again; Windows does not tell
                free += getattr(path.stat(), "st_blocks", 0) * 512
    if plan.size() > free:
        raise ValueError(_too_large(plan, f"but {place} has {in_bytes(free)} free", free))


def readable(directory: Path) -> dict[str, Any] | None:
    """Return the description of the memo in a directory, None if it is missing or ill-formed."""
    try:
        found = json.loads((directory / ABOUT).read_text(encoding="utf-8"))
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
    return teacher(images.to(device))


def _codecs(outputs: Outputs, memo: MemoSection, place: str) -> dict[str, Codec]:
    shape = tuple(outputs.logits.shape[1:])
    codecs: dict[str, Codec] = {LOGITS: Whole(shape, memo.dtype)}
    if memo.top is not None:
        if len(shape) != 1:
            found = f"the teacher's output for an image is {codecs[LOGITS]}"
            problem = f"{memo.top}, but {found} and not one logit per class"
            raise ValueError(f"{place}: {problem}: leave it out")
        try:
            codecs[LOGITS] = TopK(*shape, memo.top, memo.dtype)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    for path, value in outputs.features.items():
        codecs[feature(path)] = Whole(tuple(value.shape[1:]), memo.dtype)
    return codecs


def _unlike(directory: Path, parts: Ingredients) -> tuple[str, ...]:
    """Return what differs from the memo that differs least; empty if there is no other."""
    others = [readable(path.parent) for path in sorted(directory.glob(f"*/{ABOUT}"))]
    changes = [differences(other["ingredients"], parts) for other in others if other]
    return tuple(min(changes, key=len, default=()))


def _too_large(plan: Plan, bound: str, room: float) -> str:
    views, logits = int(room // replace(plan, views=1).size()), plan.codecs[LOGITS]
    shape = logits.shape if isinstance(logits, Whole) else ()
    classes = shape[0] if len(shape) == 1 else 1  # 1: a `top` is set already, or cannot be
    codecs = {top: TopK(classes, top, plan.parts["dtype"]) for top in range(1, classes)}
    tops = [n for n, codec in codecs.items() if plan.size({**plan.codecs, LOGITS: codec}) <= room]
    fitting = [f"`views: {views}`"] * bool(views) + [f"`top: {max(tops, default=0)}`"] * bool(tops)
    advice = f"{' or '.join(fitting)} would fit" if fitting else "not even `views: 1` would fit"
    return f"{plan.key}: {plan.rows()} would take {in_bytes(plan.size())}, {bound}: {advice}"
