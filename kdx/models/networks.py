"""From a recipe's sections to its networks, with the weights that they start from."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from kdx.data.counter import generators_kept
from kdx.models import weights
from kdx.models.class_names import differences, names_in
from kdx.models.teacher import Teacher
from kdx.protocols import ImageData, InputSpec, Task
from kdx.recipe import Recipe, RecipeError
from kdx.recipe.sections import Network, WeightFile
from kdx.recipe.sections import Teacher as TeacherSection
from kdx.tasks import task_of
from kdx.util.words import counted

PUBLISHED, GUESSED = "of its published weights", "the data's, as those of the teacher are unknown"

Note = Callable[[str], object]


def build_student(
    recipe: Recipe, data: ImageData, note: Note = lambda _: None, *, load: bool = True
) -> nn.Module:
    """Return a new compact network, if `load` with the weights that the recipe starts it from.

    `note` is called with what was loaded of a weight file, if that is not simply all of it, and
    with classes that have other names.
    """
    section, known = recipe.student, facts(task_of(data).facts, data.input)
    student = section.component.build(**known)
    if section.file and load:
        with _at("student.weights"):
            _check_classes(section.file, len(data.classes))
        for each in _load(student, section, known, data.classes, note):
            note(each)
    return student


def empty_student(recipe: Recipe, data: ImageData) -> nn.Module:
    """Return the compact network with random weights, as `kdx.load_student` will build it.

    The state of the random generators does not change.
    """
    component = recipe.student.component
    if "pretrained" in component.arguments:
        component = replace(component, arguments={**component.arguments, "pretrained": False})
    with generators_kept():
        return component.build(**facts(task_of(data).facts, data.input))


def build_teacher(
    section: TeacherSection,
    data: ImageData,
    student: nn.Module | None,
    *,
    load: bool,
    note: Note = lambda _: None,
) -> Teacher:
    """Return a teacher, with its weights if `load` is true; `note` as for students.

    Its input is that of its weights, else of the published weights, else of the data;
    `teacher.input` overrides each. For a spatial task its images have the data's size. `student`
    is the compact network, which a moving average copies; others need none.
    """
    task, place = task_of(data), section.component.where
    pretrained = bool(section.component.arguments.get("pretrained"))
    file = section.file if load else None
    with _at(f"{place}.weights"):
        spec = weights.read_spec(file.path) if file else None
        _check_classes(file, len(data.classes))
    known = facts(task.facts, spec or data.input) | {"student_network": student}
    if pretrained:
        del known["in_channels"], known["image_size"]  # those of the published weights
    module: nn.Module = section.component.build(**known)
    notes: list[str] = []
    if file:
        if not file.head:
            check_facts(file.path, task, f"{place}.weights")
        notes = _load(module, section, known, data.classes, note)
    config = (getattr(module, "pretrained_cfg", None) or {}) if pretrained else {}  # timm's
    if not file and len(labels := config.get("label_names") or ()) == len(data.classes):
        notes = differences(labels, data.classes, place=place, whose="the published network")
    published = None
    if config:
        channels, size, _ = config["input_size"]
        published = InputSpec(channels, size, tuple(config["mean"]), tuple(config["std"]))
    own = spec or published or data.input
    whose = "of its weights" if spec else PUBLISHED if published else GUESSED
    if isinstance(module, AveragedModel):
        whose = "the student's"
    known = {
        "is_known": whose != GUESSED,
        "notes": notes,
        "name": place.removeprefix("teachers."),
        "precision": section.precision,
    }
    if section.input:
        changes = {k: v for k, v in section.input.model_dump().items() if v is not None}
        mean, std = changes.get("mean", own.mean), changes.get("std", own.std)
        if len(mean) != len(std):
            numbers = f"{counted(len(mean), 'mean')} but {counted(len(std), 'standard deviation')}"
            raise ValueError(f"{place}.input: {numbers}: give both")
        if task.spatial and "size" in changes:
            rule = "not supported for this task, whose teacher sees images of the student's size"
            raise ValueError(f"{place}.input.size: {rule}: remove it")
        own = InputSpec(len(mean), changes.get("size", own.size), tuple(mean), tuple(std))
        if changes:
            whose = f"{' and '.join(changes)} of {place}.input; the rest {whose}"
            known["is_known"] = False
    own = of_size(own, data.input, task)
    return Teacher(module, own=own, given=data.input, whose=whose, **known)


def of_size(own: InputSpec, given: InputSpec, task: Task) -> InputSpec:
    """Return the input of a network that has `own` and gets `given`, whose size may differ."""
    return replace(own, size=given.size) if task.spatial else own


def _load(
    module: nn.Module, section: Network, known: dict[str, Any], classes: Sequence[str], note: Note
) -> list[str]:
    """Load the weights that a section of a recipe names; return notes on the names of classes.

    Errors begin with the key of the recipe.
    """
    file, part = section.file, section.component
    assert file is not None
    place = f"{part.where}.weights"
    head = _head(section, known, module) if file.head else set[str]()
    if file.head and not head:
        no = f"no tensor of {part.use} depends on the number of classes"
        raise ValueError(f"{place}.head: {no}: leave `head` out")
    with _at(place):
        try:
            weights.load(
                *(module, file.path),
                key=file.key,
                new=head,
                network=part.use,
                note=lambda text: note(f"{place}: {text}"),
            )
        except weights.Misfit as error:
            if file.head or not error.names or not error.names <= _head(section, known, module):
                raise
            remedy = f"to start with a new head: weights: {{path: {file.path}, head: new}}"
            raise ValueError(f"{error}\n  {remedy}") from error
    return [] if file.head else check_names(file.path, classes, place)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Begin the errors of a weight file with the key of the recipe that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}: {error}") from error
    except RecipeError:
        raise
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _head(section: Network, known: dict[str, Any], module: nn.Module) -> set[str]:
    """Return the names of the tensors whose shapes depend on the number of classes."""
    part, own = section.component, module.state_dict()
    given = {key: value for key, value in part.arguments.items() if key != "pretrained"}
    more = {"num_classes": {**known, **given}["num_classes"] + 1}
    given |= more if "num_classes" in given else {}
    with generators_kept():  # the run's own draws stay as they are
        other = replace(part, arguments=given).build(**{**known, **more})
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    return {name for name, value in own.items() if shapes.get(name, value.shape) != value.shape}


def _check_classes(file: WeightFile | None, classes: int) -> None:
    """Raise ValueError for weights of another number of classes by their metadata, with a head."""
    if file is None or file.head:
        return
    path = file.path
    trained = (weights.read_metadata(path) or {}).get("classes", classes)
    if trained != classes:
        differ = f"{counted(trained, 'class', 'classes')}, the data set has {classes:,}"
        remedy = f"use weights of the same classes, or a new head: {{path: {path}, head: new}}"
        raise ValueError(f"{path} has {differ}: {remedy}")


def check_facts(path: str | PathLike[str], task: Task, place: str) -> None:
    """Raise ValueError if the metadata of a weight file has other facts (anchors) than the task."""
    about = weights.read_metadata(path) or {"extra": {}}
    trained = about["extra"].get("facts", {})
    for name, value in json.loads(json.dumps(dict(task.facts))).items():
        if trained.get(name, value) != value:
            differ = f"{path} was trained with {trained[name]}, the data set has {value}"
            remedy = "use the data set that it was trained on"
            raise ValueError(f"{place}: {name} mismatch: {differ}: {remedy}")


def check_names(path: str | PathLike[str], classes: Sequence[str], place: str) -> list[str]:
    """Return notes on names of classes in a weight file: see `kdx.models.class_names`."""
    names = names_in(path, len(classes))
    return differences(names, classes, place=place, whose=str(path)) if names else []


def facts(task: Mapping[str, Any], input: InputSpec) -> dict[str, Any]:
    """Return what factories of networks and losses may ask for: facts of the task and images."""
    return {**task, "in_channels": input.channels, "image_size": input.size}


def has_weights(given: str | WeightFile | None) -> bool:
    """Return whether a teacher's weights exist: a file, or a finished run; true if none are set."""
    path = Path((given if isinstance(given, str) else given.path) if given else "")
    return not given or path.is_file() or (path / weights.FILE_IN_RUN).is_file()
