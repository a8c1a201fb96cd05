"""Evaluate the compact student of a run, or a .safetensors file, on a data set.

kdx evaluate runs/<name> [key=value ...]
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdx.commands.shared import add_common
from kdx.util.words import counted, measured

if TYPE_CHECKING:
    from kdx.run.classes import Classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx evaluate`."""
    add = parser.add_argument
    add("student", type=Path, metavar="STUDENT", help="a run directory or a weight file")
    add("overrides", nargs="*", metavar="key=value", help="e.g. data.root=/images")
    add("--recipe", type=Path, help="the recipe (default: the recipe.yaml beside the student)")
    add("--key", help="where in a file of several state dicts it is, e.g. model_ema")
    add("--split", default="test", choices=("test", "validation", "train"), help="default: test")
    add("--classes", action="store_true", help="judge it class by class, too")
    add("--json", action="store_true", help="print one JSON object")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate and print the metrics."""
    options = {
        key: vars(args)[key]
        for key in ("split", "key", "overrides", "plugins", "output_root", "classes")
    }
    result = evaluate(args.student, args.recipe, **options)
    if args.json:
        print(json.dumps(asdict(result)))
        return
    images = counted(result.images, f"{result.split} image")
    print(f"{args.student}: {result.parameters:,} parameters, {images}")
    for note in result.notes:
        print(f"note: {note}")
    width = max(map(len, result.metrics))
    for name, value in result.metrics.items():
        print(f"  {name:<{width}} {measured(name, value, result.numbers)}")
    if result.classes:
        from kdx.run.class_tables import section  # here: it brings torch

        print(f"\n{section(result.classes)}")


@dataclass(frozen=True)
class Assessment:
    """Metrics of a compact student on a split, as of `kdx.training.evaluation`, and the counts.

    `headings` are the titles of the task's metrics by name. `notes`: class names that differ from
    the data's, or an order of classes that the predictions suggest. `numbers`: metrics that are not
    shares in [0, 1]. `classes`, if asked for, is what classes.json of a run has, without pictures;
    None if the task cannot judge class by class.
    """

    metrics: dict[str, float]
    headings: dict[str, str]
    split: str
    images: int
    parameters: int
    notes: Sequence[str] = ()
    numbers: Sequence[str] = ()
    classes: "Classes | None" = None


def evaluate(
    path: str | PathLike[str],
    recipe: str | PathLike[str] | None = None,
    *,
    split: Literal["test", "validation", "train"] = "test",
    key: str | None = None,
    classes: bool = False,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    output_root: str | PathLike[str] = "runs",
    **settings: Any,
) -> Assessment:
    """Evaluate the student of a run directory or weight file: see `metrics` of the result.

    `key` is where in a file the student is, if it has several; `classes` asks for the values of
    each class. `recipe` names the data, by default the recipe.yaml beside or above `path`;
    `settings` override it as in `kdx.distill`, `overrides` as on the command line ("key=value").
    Images are normalised and resized as the student's file says, if the data set does it
    differently.

    Raises FileNotFoundError, RecipeError, and ValueError if there is no such split, or if the
    student was trained for another task than that of the data, such as other anchors, or on the
    same classes in another order.
    """
    import torch

    from kdx.data import Views, eval_loader
    from kdx.launch.memory import at_once
    from kdx.models.certificate import count_parameters
    from kdx.models.class_order import SplitConfusion, another_order
    from kdx.models.modes import eval_mode
    from kdx.run.classes import ClassObserver
    from kdx.run.interface import overrides_of
    from kdx.tasks import numbers_of
    from kdx.training import evaluation
    from kdx.training.opening import open_student, recipe_of

    source, texts = Path(path), [*overrides, *overrides_of(settings)]
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split: {split!r} is not train, validation or test")
    opened = open_student(source, recipe_of(source, recipe, texts, plugins, output_root), key=key)
    student, data, task = opened.student, opened.data, opened.task
    images, notes = getattr(opened.splits, split), opened.notes
    if images is None:
        raise ValueError("no validation split: the recipe holds nothing out (data.validation)")
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    views = Views(images, data.input, seed=opened.recipe.seed)
    size, confusion = min(256, at_once(views.shape)), SplitConfusion(len(data.classes))
    observer = ClassObserver(task, data.classes, device)
    with eval_mode(student.to(device)):
        metrics = evaluation.evaluate(
            lambda batch: student(opened.see(batch)),
            eval_loader(
                views, batch_size=size, workers=opened.recipe.data.fixed_workers, device=device
            ),
            task=task,
            samples=len(views),
            device=device,
            observe=[confusion, *(observer.observers if classes else [])],
        ).metrics
    if order := another_order(confusion.counts, confusion.images):
        notes.append(f"student: {order.explain(data.classes)}")
    parameters = count_parameters(student)
    found_classes = observer.report(split, images) if classes else None
    counts, numbers = (len(views), parameters), numbers_of(task)
    return Assessment(metrics, dict(task.metrics), split, *counts, notes, numbers, found_classes)
