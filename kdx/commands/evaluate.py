"""Evaluate a compact student on a split of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from kdx.data import Views, eval_loader
from kdx.launch.memory import at_once
from kdx.models import weights
from kdx.models.certificate import count_parameters
from kdx.models.modes import eval_mode
from kdx.models.networks import check_facts, facts, of_size
from kdx.models.teacher import adapt
from kdx.recipe import Recipe, load
from kdx.tasks import task_of
from kdx.training.evaluation import evaluate
from kdx.training.job import build_data

__all__ = ["Assessment", "assess", "recipe_of"]


@dataclass(frozen=True)
class Assessment:
    """A compact student on a split: metrics as of `kdx.training.evaluation`, and what was counted.

    `headings` are those of the task's metrics by name.
    """

    metrics: dict[str, float]
    headings: dict[str, str]
    split: str
    images: int
    parameters: int


def recipe_of(
    target: Path,
    recipe: Path | None,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str] = (),
    output_root: str = "runs",
) -> Recipe:
    """Load the recipe beside or above `target`, or the given one, leaving its teacher out.

    `plugins` and `output_root` as in `kdx.recipe.load`. FileNotFoundError where there is no
    target, or no recipe; ValueError for a target that holds no weights.
    """
    weights.read_spec(target)
    places = [target, *target.resolve().parents[:3]]
    found = recipe or next(
        (p / "recipe.yaml" for p in places if (p / "recipe.yaml").is_file()), None
    )
    if found is None:
        raise FileNotFoundError(
            f"{target}: no recipe.yaml beside or above it: name one by --recipe"
        )
    overrides = ["teacher=null", *overrides]
    return load(found, overrides, plugins=plugins, output_root=output_root)


def assess(
    recipe: Recipe, source: Path, *, split: Literal["test", "validation", "train"] = "test"
) -> Assessment:
    """Load a compact student strictly and evaluate it on a split of the recipe's data.

    Its file says how it wants its images: they are re-normalised and resized where the data set
    has them otherwise. ValueError where it was trained with other facts of the task than the data
    have, such as anchors.
    """
    own = weights.read_spec(source)
    data, splits = build_data(recipe)
    images = {"test": splits.test, "validation": splits.validation, "train": splits.train}[split]
    if images is None:
        raise ValueError("validation: the recipe holds nothing out (data.validation)")
    task = task_of(data)
    check_facts(source, task, data.classes, "student")
    own = of_size(own or data.input, data.input, task)
    student = recipe.student.component.build(**facts(task.facts, own))
    weights.load(student, source)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    views = Views(images, data.input, seed=recipe.seed)
    with eval_mode(student.to(device)):
        metrics = evaluate(
            lambda batch: student(adapt(batch, data.input, own)),
            eval_loader(
                views, batch_size=min(256, at_once(views.shape)), workers=recipe.data.workers
            ),
            task=task,
            samples=len(views),
            device=device,
        ).metrics
    return Assessment(metrics, dict(task.metrics), split, len(views), count_parameters(student))
