"""What is exported: a compact student, the images that it is compared on, and where it goes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdx.data import Views, preparation
from kdx.data.augment import to_pixels
from kdx.exporting.tracing import FromPixels
from kdx.models import weights
from kdx.protocols import ImageSource
from kdx.training.opening import Opened, is_checkpoint, open_student, recipe_of

CERTIFICATE, FOLDER = "certificate.json", "exports"
BATCH = 32  # images that are prepared at once


@dataclass(frozen=True)
class Source:
    """A compact student in eval mode on the CPU, opened from `path`.

    `run` is the run directory whose student it is; None for other files and for checkpoints.
    With `from_pixels` its `network` takes uint8, else float32.
    """

    path: Path
    opened: Opened
    run: Path | None
    from_pixels: bool

    @property
    def name(self) -> str:
        """What artefacts are called: "student", or as the file or the checkpoint."""
        return "student" if self.run else self.path.resolve().name.removesuffix(".safetensors")

    @property
    def folder(self) -> Path:
        """Where artefacts go: exports/ in the run, or beside the file."""
        above = self.path.resolve().parent
        return (self.run or (above.parent if is_checkpoint(self.path) else above)) / FOLDER

    @property
    def network(self) -> nn.Module:
        """The compact student, with its preprocessing if that is part of the graph."""
        student = self.opened.student.cpu().eval()
        return FromPixels(student, self.opened.own).eval() if self.from_pixels else student

    @property
    def dtype(self) -> str:
        """What `network` takes."""
        return "uint8" if self.from_pixels else "float32"

    @property
    def views(self) -> Views:
        """The test images."""
        return self._views(self.opened.splits.test)

    def _views(self, split: ImageSource) -> Views:
        return Views(split, self.opened.data.input, seed=self.opened.recipe.seed)

    def prepare(self, images: Tensor) -> Tensor:
        """Return a batch of views as `network` takes it."""
        seen = self.opened.see(images)
        return to_pixels(seen, self.opened.own) if self.from_pixels else seen

    def images(self, count: int) -> Tensor:
        """Return the network's input for up to `count` test images, spread over them."""
        return torch.cat(self._batches(self.opened.splits.test, count))

    def calibration(self, count: int) -> list[Tensor]:
        """Return the network's input for up to `count` training images, unchanged, in batches."""
        return self._batches(self.opened.splits.train, count)

    def _batches(self, split: ImageSource, count: int) -> list[Tensor]:
        return [self.prepare(part.images) for part in self._views(split).spread(count, BATCH)]

    def about(self) -> dict[str, Any]:
        """Return what an artefact says of itself: classes, task, preprocessing; ranges of int8."""
        opened, own = self.opened, self.opened.own
        made = preparation(opened.splits.test, own)
        extra = (weights.read_metadata(self.path) or {}).get("extra", {})
        return {
            **{name: extra[name] for name in ("int8",) if name in extra},
            "classes": list(opened.data.classes),
            "task": type(opened.task).__name__.lower(),
            "mean": list(own.mean),
            "std": list(own.std),
            "size": list(own.hw),
            "interpolation": (made["resize"] or {}).get("interpolation") or "none",
            "preprocessing": made,
            "input": "uint8" if self.from_pixels else "float32, normalised",
        }

    def results(self) -> dict[str, Any]:
        """Return "metrics" and "test_images" of the run's summary.json, if there is one."""
        file = (self.run or self.folder) / "summary.json"
        if not file.is_file():
            return {}
        found = json.loads(file.read_text(encoding="utf-8"))
        return {"metrics": found["test"], "test_images": found["test_images"]}


def open_source(
    path: str | PathLike[str],
    recipe: str | PathLike[str] | None,
    *,
    key: str | None = None,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    output_root: str | PathLike[str] = "runs",
    from_pixels: bool = False,
) -> Source:
    """Open a run directory, a weight file or a checkpoint; errors as `kdx.evaluate`."""
    path = Path(path)
    try:
        found = recipe_of(path, recipe, overrides, plugins, output_root)
    except FileNotFoundError as error:
        if not (checkpoints := sorted(path.glob("checkpoints/epoch_*"))):
            raise
        raise FileNotFoundError(f"{error}; or pass a checkpoint: {checkpoints[-1]}") from error
    opened = open_student(path, found, key=key)
    return Source(path, opened, _run_of(path), from_pixels)


def _run_of(path: Path) -> Path | None:
    """Return the run directory of which `path`, or the file at `path`, is the student."""
    place = path.parent if path.is_file() else path
    is_run = (place / CERTIFICATE).is_file() and (place / weights.FILE_IN_RUN).is_file()
    return place if is_run and (path.is_dir() or path.name == weights.FILE_IN_RUN) else None
