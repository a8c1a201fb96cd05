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
from kdx.models.class_names import differences, names_in
from kdx.models.modes import eval_mode
from kdx.models.teacher import Teacher
from kdx.protocols import ImageData, InputSpec, Task
from kdx.recipe import Recipe
from kdx.tasks import task_of
from kdx.util.words import counted

PUBLISHED, GUESSED = "of its published weights", "the data's, as those of the teacher are unknown"


def build_student(recipe: Recipe, data: ImageData) -> nn.Module:
    """Return a new compact network, with the weights that the recipe starts it from."""
    section = recipe.student
    student = section.component.build(**facts(task_of(data).facts, data.input))
    if section.weights:
        _check_classes(section.weights, len(data.classes), "student")
        weights.load(student, section.weights)
        check_names(section.weights, data.classes, "student.weights")
    return student


def build_teacher(recipe: Recipe, data: ImageData, *, load: bool) -> Teacher:
    """Return the recipe's teacher, with its weights if `load` is true.

    Its input is that of its weights, else of the published weights, else of the data;
    `teacher.input` overrides each. For a spatial task its images have the data's size.
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
        check_facts(section.weights, task, "teacher.weights")
        weights.load(module, section.weights)
        notes = check_names(section.weights, data.classes, "teacher.weights")
    elif told := (getattr(module, "pretrained_cfg", None) or {}).get("label_names"):
        notes = differences(told, data.classes, place="teacher", whose="the published network")
    else:
        notes = []
    published = _published(module) if pretrained else None
    own = spec or published or data.input
    whose = "of its weights" if spec else PUBLISHED if published else GUESSED
    known = {"is_known": whose != GUESSED, "notes": notes}
    if section.input:
        changes = {k: v for k, v in section.input.model_dump().items() if v is not None}
        mean, std = changes.get("mean", own.mean), changes.get("std", own.std)
        if len(mean) != len(std):
            numbers = f"{counted(len(mean), 'mean')} but {counted(len(std), 'standard deviation')}"
            raise ValueError(f"teacher.input: {numbers}: give both")
        if task.spatial and "size" in changes:
            rule = "not supported for this task, whose teacher sees images of the student's size"
            raise ValueError(f"teacher.input.size: {rule}: remove it")
        own = InputSpec(len(mean), changes.get("size", own.size), tuple(mean), tuple(std))
        if changes:
            whose = f"{' and '.join(changes)} of teacher.input; the rest {whose}"
            known["is_known"] = False
    own = of_size(own, data.input, task)
    return Teacher(module, own=own, given=data.input, whose=whose, **known)


def of_size(own: InputSpec, given: InputSpec, task: Task) -> InputSpec:
    """Return the input of a network that has `own` and gets `given`, whose size may differ."""
    return replace(own, size=given.size) if task.spatial else own


def _check_classes(path: str, classes: int, role: str) -> None:
    """Raise ValueError if the metadata of a weight file has another number of classes."""
    trained = (weights.read_metadata(path) or {}).get("classes", classes)
    if trained != classes:
        differ = f"{counted(trained, 'class', 'classes')}, the data set has {classes:,}"
        remedy = "use weights that were trained on the same classes"
        raise ValueError(f"{role}.weights: {path} has {differ}: {remedy}")


def check_facts(path: str | PathLike[str], task: Task, place: str) -> None:
    """Raise ValueError if the metadata of a weight file has other facts (anchors) than the task."""
    about = weights.read_metadata(path) or {"extra": {}}
    told = about["extra"].get("facts", {})
    for name, value in json.loads(json.dumps(dict(task.facts))).items():
        if told.get(name, value) != value:
            differ = f"{path} was trained with {told[name]}, the data set has {value}"
            remedy = "use the data set that it was trained on"
            raise ValueError(f"{place}: {name} mismatch: {differ}: {remedy}")


def check_names(path: str | PathLike[str], classes: Sequence[str], place: str) -> list[str]:
    """Return notes on names of classes in a weight file: see `kdx.models.class_names`."""
    names = names_in(path, len(classes))
    return differences(names, classes, place=place, whose=str(path)) if names else []


def _published(module: nn.Module) -> InputSpec | None:
    """Return the input of published weights, as in timm's `pretrained_cfg`."""
    if (config := getattr(module, "pretrained_cfg", None)) is None:
        return None
    channels, size, _ = config["input_size"]
    return InputSpec(channels, size, tuple(config["mean"]), tuple(config["std"]))


def facts(task: Mapping[str, Any], input: InputSpec) -> dict[str, Any]:
    """Return what factories of networks and losses may ask for: facts of the task and images."""
    return {**task, "in_channels": input.channels, "image_size": input.size}


def has_weights(path: str | None) -> bool:
    """Return whether a teacher's weights exist: a file, or a finished run; true if none are set."""
    return path is None or Path(path).is_file() or (Path(path) / weights.FILE_IN_RUN).is_file()


@torch.no_grad()
def check_answer(network: nn.Module, images: Tensor, task: Task, role: str) -> None:
    """Raise ValueError if `network` fails on images [B, C, H, W], or returns another shape."""
    try:
        with eval_mode(network):
            answer = network(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        shape = list(images.shape[1:])
        raise ValueError(f"{role}: forward failed on images of {shape}: {error}") from error
    try:
        task.check(answer, images)
    except ValueError as error:
        raise ValueError(f"{role}: {error}") from error
