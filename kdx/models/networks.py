"""From a recipe's sections to its networks, with the weights that they start from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdx.models import weights
from kdx.models.modes import eval_mode
from kdx.models.teacher import Teacher
from kdx.protocols import ImageData, InputSpec, Task
from kdx.recipe import Recipe
from kdx.tasks import task_of
from kdx.util.words import counted, listed

__all__ = [
    "build_student",
    "build_teacher",
    "check_answer",
    "check_facts",
    "facts",
    "has_weights",
    "of_size",
]


def build_student(recipe: Recipe, data: ImageData) -> nn.Module:
    """Build the compact network, with the weights that the recipe starts it from.

    It is a new one at every call.
    """
    section = recipe.student
    student = section.component.build(**facts(task_of(data).facts, data.input))
    if section.weights:
        _check_classes(section.weights, len(data.classes), "student")
        weights.load(student, section.weights)
    return student


def build_teacher(recipe: Recipe, data: ImageData, *, load: bool) -> Teacher:
    """Build the recipe's teacher, with its weights where `load` says so.

    Its input is what its weights say, else the published weights', else the data's;
    `teacher.input` overrides each. Where the task is spatial, its images have the data's size.
    """
    section, task = recipe.teacher, task_of(data)
    assert section is not None
    pretrained = bool(section.component.arguments.get("pretrained"))
    spec = weights.read_spec(section.weights) if section.weights and load else None
    known = facts(task.facts, spec or data.input)
    if pretrained:
        del known["in_channels"], known["image_size"]  # those of the published weights
    module: nn.Module = section.component.build(**known)
    if section.weights and load:
        _check_classes(section.weights, len(data.classes), "teacher")
        check_facts(section.weights, task, data.classes, "teacher.weights")
        weights.load(module, section.weights)
    own = spec or (_published(module) if pretrained else None) or data.input
    if section.input:
        changes = {k: v for k, v in section.input.model_dump().items() if v is not None}
        mean, std = changes.get("mean", own.mean), changes.get("std", own.std)
        if len(mean) != len(std):
            raise ValueError(
                f"teacher.input: {counted(len(mean), 'mean')} but "
                f"{counted(len(std), 'standard deviation')}: give both"
            )
        if task.spatial and "size" in changes:
            raise ValueError(
                "teacher.input.size: its answers are of places in the image, so that it sees the "
                "student's images: leave the size out"
            )
        own = InputSpec(len(mean), changes.get("size", own.size), tuple(mean), tuple(std))
    return Teacher(module, own=of_size(own, data.input, task), given=data.input)


def of_size(own: InputSpec, given: InputSpec, task: Task) -> InputSpec:
    """Return how a network of input `own` sees images that are `given`, which may be larger."""
    return replace(own, size=given.size) if task.spatial else own


def _check_classes(path: str, classes: int, role: str) -> None:
    """Refuse weights that say themselves that they are for other data."""
    trained = (weights.read_metadata(path) or {}).get("classes", classes)
    if trained != classes:
        raise ValueError(
            f"{role}.weights: {path} is for {counted(trained, 'class', 'classes')}, and the data "
            f"have {classes:,}: use weights that were trained on the same classes"
        )


def check_facts(path: str | PathLike[str], task: Task, classes: Sequence[str], place: str) -> None:
    """Refuse weights that say themselves what other facts their answers are in terms of.

    The same classes in another order are refused, too; other names may mean the same.
    """
    about = weights.read_metadata(path) or {"extra": {}}
    told = about["extra"].get("facts", {})
    for name, value in json.loads(json.dumps(dict(task.facts))).items():
        if told.get(name, value) != value:
            raise ValueError(
                f"{place}: {path} was trained with the {name} {told[name]}, and the data have "
                f"{value}: its answers mean something else with these. Give it the data it had"
            )
    names = about["extra"].get("class_names", classes)
    if list(names) != list(classes) and sorted(names) == sorted(classes):
        raise ValueError(
            f"{place}: {path} was trained with the classes {listed(names)}, in this order, and the "
            f"data have {listed(classes)}: its answers would be taken for others'"
        )


def _published(module: nn.Module) -> InputSpec | None:
    """The input of published weights, as timm's `pretrained_cfg` says it."""
    config = getattr(module, "pretrained_cfg", None)
    if config is None:
        return None
    channels, size, _ = config["input_size"]
    return InputSpec(channels, size, tuple(config["mean"]), tuple(config["std"]))


def facts(task: Mapping[str, Any], input: InputSpec) -> dict[str, Any]:
    """Return what a network's or a loss's factory may ask to know: of its task, and its images."""
    return {**task, "in_channels": input.channels, "image_size": input.size}


def has_weights(path: str | None) -> bool:
    """Whether the weights of a teacher are there: a file, or a finished run."""
    if path is None:
        return True
    place = Path(path)
    return place.is_file() or (place / "student.safetensors").is_file()


@torch.no_grad()
def check_answer(network: nn.Module, images: Tensor, task: Task, role: str) -> None:
    """Raise ValueError where `network` does not answer images as the task wants it."""
    try:
        with eval_mode(network):
            answer = network(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        shape = list(images.shape[1:])
        raise ValueError(f"{role}: it cannot take images of {shape}: {error}") from error
    try:
        task.check(answer, images)
    except ValueError as error:
        raise ValueError(f"{role}: {error}") from error
