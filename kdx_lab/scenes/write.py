"""Writing a set of scenes in both layouts, atomically."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import track

from kdx.util.files import placed, write_whole
from kdx_lab.scenes import cityscapes, voc
from kdx_lab.scenes.classes import class_map
from kdx_lab.scenes.compose import Scene, compose
from kdx_lab.scenes.items import Items, load_items
from kdx_lab.scenes.plan import SPLITS, ScenePlan
from kdx_lab.scenes.preview import sheet

__all__ = ["write_scenes"]

ABOUT = "scenes.json"  # the file by which a set of scenes is recognised
SHOWN = 12


def write_scenes(
    out: Path,
    plan: ScenePlan,
    *,
    root: str | None = None,
    overwrite: bool = False,
    console: Console,
) -> None:
    """Write the scenes of `plan` into the folder `out`, in the layouts of VOC and Cityscapes.

    They are written beside it and renamed at the end. `root` is where Fashion-MNIST is. Raises
    FileExistsError if `out` is not empty, unless `overwrite` is set and it is a set of scenes;
    ValueError as `load_items`.
    """
    out = out.resolve()
    _check_free(out, overwrite)
    items = load_items(root)
    with placed(out), _staged(out) as staging:
        names = _names(plan)
        jobs = [(split, *job) for split in SPLITS for job in enumerate(names[split])]
        for split, index, name in track(jobs, description=escape(out.name), console=console):
            scene = _scene(plan, items, split, index)
            voc.save_scene(scene, staging, name=name)
            cityscapes.save_scene(scene, staging, split=split, name=name)
        voc.save_sets(names, staging)
        shown = min(SHOWN, plan.images[0])
        sheet([_scene(plan, items, "train", i) for i in range(shown)]).save(staging / "preview.png")
        images = dict(zip(SPLITS, plan.images, strict=True))
        about = {**asdict(plan), "images": images, **class_map()}
        write_whole(staging / ABOUT, f"{json.dumps(about, indent=2)}\n")


def _scene(plan: ScenePlan, items: dict[str, Items], split: str, index: int) -> Scene:
    key = (plan.seed, SPLITS.index(split), index)
    return compose(items[split], plan.size, objects=plan.objects, key=key)


def _names(plan: ScenePlan) -> dict[str, list[str]]:
    """Number all scenes from 1, as VOC does: train, val, test."""
    ends = list(accumulate(plan.images))
    return {
        split: [f"{number:06d}" for number in range(end - count + 1, end + 1)]
        for split, count, end in zip(SPLITS, plan.images, ends, strict=True)
    }


def _check_free(out: Path, overwrite: bool) -> None:
    if out.is_dir() and (out.samefile(".") or os.path.ismount(out)):
        which = "a mount point" if os.path.ismount(out) else "the current directory"
        raise FileExistsError(f"{out} is {which}, which is not replaced: name a folder in it")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / ABOUT).is_file():
        raise FileExistsError(f"{out} exists and is not a set of scenes: choose another folder")
    if not overwrite:
        raise FileExistsError(
            f"{out} already contains scenes: choose another folder, or pass --overwrite"
        )


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """Yield a new folder: it replaces `out` at the end, or is removed."""
    staging, old = (out.with_name(f".{out.name}.{what}") for what in ("partial", "old"))
    for left_over in (staging, old):  # by a killed process
        shutil.rmtree(left_over, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        if out.exists():
            out.rename(old)
        staging.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
