"""The networks of a recipe: the compact one, and the ones that are trained.

B: batch, C: channels, H, W: image size.
"""

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from kdx.data import FileImages
from kdx.models.networks import build_student
from kdx.models.transforms import restore
from kdx.protocols import ImageData, InputSpec
from kdx.recipe import Component, Recipe, load, load_student
from kdx.recipe.arguments import check
from kdx.recipe.sections import Student
from kdx.tasks.detection import Detection
from kdx.util.errors import reason
from kdx_lab.complexity.counting import Shape
from kdx_lab.complexity.table13 import NETWORKS, Known, expansion

__all__ = ["WAYS", "Variants", "named", "of_network", "of_recipe"]

OTHERS = Known((3, 224, 224), 128, "cl")
WITHOUT_DATA = "to count without opening the data, give both: --image 3x224x224 --classes 1000"
WAYS = ("unfolded", "folded")
"""Values of the argument `mode` of transforms that have one, such as ExpandNet."""


@dataclass(frozen=True)
class Variants:
    """The networks that a student is in training, by mode, and the compact one.

    `batch` is (B, C, H, W); `functional` is as in `counting.count`.
    """

    trained: Mapping[str, nn.Module]
    compact: nn.Module
    batch: Shape
    functional: Collection[type[nn.Module]]


def named(
    network: str | None,
    words: Sequence[str],
    *,
    image: Shape | None = None,
    classes: int | None = None,
    plugins: Sequence[str] = (),
    output_root: str = "runs",
) -> tuple[str, Variants]:
    """Return the name and networks of a command line, with the errors of `of_network`, `of_recipe`.

    `words` are a recipe and its overrides, or overrides of the `student:` section of a `network`,
    whose `transforms` are the paper's if it has some, else ExpandNet-CL.
    """
    if network:
        plan = expansion(NETWORKS.get(network, OTHERS).preset)
        section = load_student({"use": network, "transforms": [plan]}, words, plugins=plugins)
        return " ".join((network, *words)), of_network(section, image=image, classes=classes)
    recipe = load(words[0], words[1:], plugins=plugins, output_root=output_root)
    return recipe.name, of_recipe(recipe, image=image, classes=classes)


def of_recipe(
    recipe: Recipe, *, image: Shape | None = None, classes: int | None = None
) -> Variants:
    """Return the networks of a recipe, with random weights, on its data's images.

    With an `image` [C, H, W] and a number of `classes`, the data set is not opened. ValueError if
    only one is given, or the data set cannot be opened.
    """
    if bool(image) != bool(classes):
        raise ValueError(f"image {image}, classes {classes}: {WITHOUT_DATA}")
    data = _assumed(recipe, image, classes) if image and classes else _opened(recipe)
    part = recipe.student.component
    arguments = {key: value for key, value in part.arguments.items() if key != "pretrained"}
    section = recipe.student.model_copy(
        update={"weights": None, "component": replace(part, arguments=arguments)}
    )
    student = build_student(recipe.model_copy(update={"student": section}), data)
    size = data.input.size
    height, width = (size, size) if isinstance(size, int) else size
    return _variants(student, section, (recipe.data.batch_size, data.input.channels, height, width))


def of_network(
    section: Student, *, image: Shape | None = None, classes: int | None = None
) -> Variants:
    """Return the networks of a `student:` section, on the paper's images [C, H, W] and batches.

    Other networks get 224 x 224 pixels in batches of 128. The number of classes is `classes`, else
    the section's, else the network's default, else 1000.
    """
    part = section.component
    known = NETWORKS.get(part.use, OTHERS)
    channels, height, width = image or known.image
    facts = {"in_channels": channels, "image_size": height}
    own = inspect.signature(part.factory).parameters.get("num_classes")
    if classes or (own and own.default is own.empty):
        facts["num_classes"] = classes or 1000
    return _variants(part.build(**facts), section, (known.batch, channels, height, width))


def _opened(recipe: Recipe) -> ImageData:
    try:
        return recipe.data.component.build()
    except ValueError as error:
        raise ValueError(f"{error}\n{WITHOUT_DATA}") from error


def _assumed(recipe: Recipe, image: Shape, classes: int) -> ImageData:
    part, names = recipe.data.component, [str(index) for index in range(classes)]
    default = inspect.signature(part.factory).parameters.get("anchors")
    anchors = part.arguments.get("anchors", default and default.default)
    task = None if anchors is None else Detection(classes=names, anchors=anchors)
    channels, height, width = image
    size: Any = height if height == width else (height, width)
    input = InputSpec(channels, size, (0.0,) * channels, (1.0,) * channels)
    none = FileImages([], torch.empty(0, dtype=torch.int64))
    return ImageData(none, none, names, input, task=task)


def _variants(student: nn.Module, section: Student, batch: Shape) -> Variants:
    trained: dict[str, nn.Module] = {}
    compact = student
    for way, parts in _ways(section.transforms).items():
        transforms = []
        network = student
        for part in parts:
            transforms.append(part.build(input_shape=batch))
            try:
                network = transforms[-1].apply(network)
            except Exception as error:  # the transform may be a plug-in's
                raise ValueError(f"{part.place}: {part.where}: {reason(error)}") from error
        trained[way] = network
        compact = restore(network, transforms)
    known = NETWORKS.get(section.component.use)
    return Variants(trained, compact, batch, known.functional if known else ())


def _ways(transforms: Sequence[Component]) -> dict[str, list[Component]]:
    """Return the transforms for each mode; the recipe's if none of them has one."""
    if not transforms:
        return {}
    if not any(_has(part, way) for part in transforms for way in WAYS):
        return {"trained": list(transforms)}
    return {way: [_in(part, way) for part in transforms] for way in WAYS}


def _in(part: Component, way: str) -> Component:
    return replace(part, arguments=_run(part, way)) if _has(part, way) else part


def _has(part: Component, way: str) -> bool:
    return "mode" in inspect.signature(part.factory).parameters and not any(
        check(part.factory, part.kind, _run(part, way))
    )


def _run(part: Component, way: str) -> dict[str, object]:
    return {**part.arguments, "mode": way}
