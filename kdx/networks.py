"""From a recipe's sections to its networks, with the weights that they start from."""

from pathlib import Path

import torch
from torch import Tensor, nn

from kdx import weights
from kdx.evaluation import eval_mode
from kdx.protocols import ImageData, InputSpec
from kdx.recipe import Recipe
from kdx.teacher import Teacher
from kdx.words import counted

__all__ = ["build_student", "build_teacher", "check_logits", "facts", "has_weights"]


def build_student(recipe: Recipe, data: ImageData) -> nn.Module:
    """Build the compact network, with the weights that the recipe starts it from.

    It is a new one at every call.
    """
    section = recipe.student
    student = section.component.build(**facts(len(data.classes), data.input))
    if section.weights:
        _check_classes(section.weights, len(data.classes), "student")
        weights.load(student, section.weights)
    return student


def build_teacher(recipe: Recipe, data: ImageData, *, load: bool) -> Teacher:
    """Build the recipe's teacher, with its weights where `load` says so.

    Its input is what its weights say, else the published weights', else the data's;
    `teacher.input` overrides each.
    """
    section = recipe.teacher
    assert section is not None
    pretrained = bool(section.component.arguments.get("pretrained"))
    spec = weights.read_spec(section.weights) if section.weights and load else None
    known = facts(len(data.classes), spec or data.input)
    if pretrained:
        del known["in_channels"], known["image_size"]  # those of the published weights
    module: nn.Module = section.component.build(**known)
    if section.weights and load:
        _check_classes(section.weights, len(data.classes), "teacher")
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
        own = InputSpec(len(mean), changes.get("size", own.size), tuple(mean), tuple(std))
    return Teacher(module, own=own, given=data.input)


def _check_classes(path: str, classes: int, role: str) -> None:
    """Refuse weights that say themselves that they are for other data."""
    trained = (weights.read_metadata(path) or {}).get("classes", classes)
    if trained != classes:
        raise ValueError(
            f"{role}.weights: {path} is for {counted(trained, 'class', 'classes')}, and the data "
            f"have {classes:,}: use weights that were trained on the same classes"
        )


def _published(module: nn.Module) -> InputSpec | None:
    """The input of published weights, as timm's `pretrained_cfg` says it."""
    config = getattr(module, "pretrained_cfg", None)
    if config is None:
        return None
    channels, size, _ = config["input_size"]
    return InputSpec(channels, size, tuple(config["mean"]), tuple(config["std"]))


def facts(classes: int, input: InputSpec) -> dict[str, int]:
    """Return what a network factory may ask to know of its data."""
    return {"num_classes": classes, "in_channels": input.channels, "image_size": input.size}


def has_weights(path: str | None) -> bool:
    """Whether the weights of a teacher are there: a file, or a finished run."""
    if path is None:
        return True
    place = Path(path)
    return place.is_file() or (place / "student.safetensors").is_file()


@torch.no_grad()
def check_logits(network: nn.Module, images: Tensor, classes: int, role: str) -> None:
    """Raise ValueError where `network` does not answer images with logits [B, classes]."""
    try:
        with eval_mode(network):
            logits = network(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        shape = list(images.shape[1:])
        raise ValueError(f"{role}: it cannot take images of {shape}: {error}") from error
    if not isinstance(logits, Tensor) or logits.shape != (len(images), classes):
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"{role}: it answers {len(images)} images with {got}, not with logits "
            f"[{len(images)}, {classes}] for the data's {classes} classes"
        )
