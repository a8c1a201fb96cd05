"""From a recipe's sections to its networks, with the weights that they start from."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.models import weights
from kdx.models.modes import as_it_was, eval_mode
from kdx.models.teacher import Teacher
from kdx.protocols import ImageData, InputSpec, Task
from kdx.recipe import Recipe
from kdx.tasks import task_of
from kdx.util.errors import reason
from kdx.util.words import counted, listed


def build_student(recipe: Recipe, data: ImageData, *, load: bool = True) -> nn.Module:
    """Return a new compact network, if `load` with the weights that the recipe starts it from."""
    section = recipe.student
    student = section.component.build(**facts(task_of(data).facts, data.input))
    if section.weights and load:
        _check_classes(section.weights, len(data.classes), "student")
        weights.load(student, section.weights)
    return student


def empty_student(recipe: Recipe, data: ImageData) -> nn.Module:
    """Return the compact network with random weights, as `kdx.load_student` will build it.

    The random numbers that this takes are given back.
    """
    component = recipe.student.component
    if "pretrained" in component.arguments:
        component = replace(component, arguments={**component.arguments, "pretrained": False})
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            return component.build(**facts(task_of(data).facts, data.input))
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


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
        check_facts(section.weights, task, data.classes, "teacher.weights")
        weights.load(module, section.weights)
    own = spec or (_published(module) if pretrained else None) or data.input
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
    return Teacher(module, own=of_size(own, data.input, task), given=data.input)


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


def check_facts(path: str | PathLike[str], task: Task, classes: Sequence[str], place: str) -> None:
    """Raise ValueError if the metadata of a weight file has other facts (anchors) than the task.

    Also for the same classes in another order; other class names may mean the same.
    """
    about = weights.read_metadata(path) or {"extra": {}}
    told = about["extra"].get("facts", {})
    for name, value in json.loads(json.dumps(dict(task.facts))).items():
        if told.get(name, value) != value:
            differ = f"{path} was trained with {told[name]}, the data set has {value}"
            remedy = "use the data set that it was trained on"
            raise ValueError(f"{place}: {name} mismatch: {differ}: {remedy}")
    names = about["extra"].get("class_names", classes)
    if list(names) != list(classes) and sorted(names) == sorted(classes):
        differ = f"{path} was trained on {listed(names)}, the data set has {listed(classes)}"
        remedy = "give it the classes in the same order"
        raise ValueError(f"{place}: class order mismatch: {differ}: {remedy}")


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
def check_answer(
    network: nn.Module, images: Tensor, task: Task, role: str, *, train: bool = False
) -> None:
    """Raise ValueError if `network` fails on images [B, C, H, W], or returns another shape.

    In eval mode, or in `train` mode: there some networks return the outputs of auxiliary heads,
    too, or losses. Buffers and random numbers stay as they are.
    """
    place = f"{role}: in train mode" if train else role
    remedy = "turn off what it adds in train mode, such as by `aux_logits: false`"
    also = f"; in eval mode it is right: {remedy}, or return the logits only" if train else ""
    mode = as_it_was(network) if train else eval_mode(network)
    try:
        with mode, torch.random.fork_rng(devices=[]):
            answer = network(images)
    except Exception as error:  # the network may be anybody's
        failed = f"forward failed on images of {list(images.shape[1:])}: {reason(error)}"
        raise ValueError(f"{place}: {failed}{also}") from error
    try:
        task.check(answer, images)
    except ValueError as error:
        raise ValueError(f"{place}: {error}{also}") from error
