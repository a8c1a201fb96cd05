"""Whether a memo fits: into its limit, and on the disk."""

import shutil
from dataclasses import replace
from pathlib import Path

from kdx.memo.plan import LOGITS, Plan
from kdx.memo.rows import TopK, Whole
from kdx.memo.store import files
from kdx.util.words import in_bytes

__all__ = ["check_room"]


def check_room(plan: Plan) -> None:
    """Raise ValueError where a full memo is over its limit, or over the free space on the disk.

    The error says what would fit.
    """
    if plan.size() > plan.limit:
        bound = f"over the limit of {in_bytes(plan.limit)} (teacher.memo.limit, in GB)"
        raise ValueError(_too_large(plan, bound, plan.limit))
    place = _existing(plan.directory)
    free = shutil.disk_usage(place).free
    own = [
        path
        for name, codec in plan.codecs.items()
        for path, _ in files(plan.directory, name, plan.shape, codec.width)
    ]
    there = sum(getattr(path.stat(), "st_blocks", 0) * 512 for path in own if path.exists())
    if plan.size() - there > free:
        bound = f"but {place.absolute()} has {in_bytes(free)} free"
        raise ValueError(_too_large(plan, bound, free + there))


def _too_large(plan: Plan, bound: str, room: float) -> str:
    views = int(room // replace(plan, views=1).size())
    top = _largest_top(plan, room)
    fitting = [f"`views: {views}`"] * bool(views) + [f"`top: {top}`"] * bool(top)
    advice = f"{' or '.join(fitting)} would fit" if fitting else "not even `views: 1` would fit"
    return f"teacher.memo: {plan.rows()} would take {in_bytes(plan.size())}, {bound}: {advice}"


def _largest_top(plan: Plan, room: float) -> int:
    """Return the largest `top` that fits with all the views, 0 where none does."""
    logits = plan.codecs[LOGITS]
    shape = logits.shape if isinstance(logits, Whole) else ()
    classes = shape[0] if len(shape) == 1 else 1  # 1: a `top` is set already, or cannot be

    def fits(top: int) -> bool:
        kept = TopK(classes, top, plan.parts["dtype"])
        return plan.size({**plan.codecs, LOGITS: kept}) <= room

    return next((top for top in reversed(range(1, classes)) if fits(top)), 0)


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
