"""Compact students of finished runs, weight files and checkpoints, with the data they are for."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdx.data import Splits
from kdx.models import weights
from kdx.models.networks import check_facts, check_names, facts, of_size
from kdx.models.teacher import adapt
from kdx.models.transforms import restore
from kdx.protocols import ImageData, InputSpec, Task
from kdx.recipe import Recipe, allow, load
from kdx.tasks import task_of
from kdx.training.job import build_data
from kdx.training.state import STATE, TrainState
from kdx.util.copies import copied


@dataclass(frozen=True)
class Opened:
    """A compact student with its weights, and the data of its recipe.

    `own` is the input that it was trained on, the data's may differ. `notes`: class names that
    differ from the data's.
    """

    student: nn.Module
    own: InputSpec
    recipe: Recipe
    data: ImageData
    splits: Splits
    notes: list[str]

    @property
    def task(self) -> Task:
        """The task of the data."""
        return task_of(self.data)

    def see(self, images: Tensor) -> Tensor:
        """Return a batch [B, C, H, W] of the data's views as the student takes it."""
        return adapt(images, self.data.input, self.own)


def recipe_of(
    target: Path,
    recipe: str | PathLike[str] | None,
    overrides: Sequence[str],
    plugins: Sequence[str],
    output_root: str | PathLike[str],
) -> Recipe:
    """Load the recipe beside or above `target`, or the given one, without its teacher.

    The rest as in `kdx.recipe.load`. Raises FileNotFoundError if there is no target or no recipe;
    ValueError if the target holds no weights.
    """
    weights.read_spec(target)
    allow(plugins)
    places = (place / "recipe.yaml" for place in (target, *target.resolve().parents[:3]))
    found = recipe or next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"{target}: no recipe.yaml beside or above it: name one with --recipe"
        )
    texts = ["teacher=null", "teachers={}", *overrides]
    return load(found, texts, plugins=plugins, output_root=output_root)


def is_checkpoint(source: Path) -> bool:
    """Return whether it is a directory in a run's checkpoints/."""
    return (source / STATE).is_file()


def open_student(source: Path, recipe: Recipe, *, key: str | None = None) -> Opened:
    """Open the student of a run directory, weight file or checkpoint, and the data of `recipe`.

    `key` as in `kdx.models.weights.load`. ValueError for what does not fit the data or the recipe,
    such as other anchors, and for a checkpoint without a compact equivalent.
    """
    own = weights.read_spec(source)
    data, splits = build_data(recipe)
    task = task_of(data)
    check_facts(source, task, "student")
    own = of_size(own or data.input, data.input, task)
    if is_checkpoint(source):
        expanded, transforms = TrainState.read(source).build_student(recipe)
        student = restore(copied(expanded), transforms)
    else:
        known: dict[str, Any] = facts(task.facts, own)
        student = recipe.student.component.build(**known)
        weights.load(student, source, key=key, network=recipe.student.component.use)
    notes = check_names(source, data.classes, "student")
    return Opened(student, own, recipe, data, splits, notes)
