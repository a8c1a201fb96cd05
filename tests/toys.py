"""Plug-ins that the tests bring: a transform, and networks that are simple or unfit."""

import random
import time
import warnings
from copy import deepcopy
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ChannelsLast", "Conditional", "Darker", "Faulty", "Fickle", "Ledger", "Otherwise", "Pair",
    "Rescale", "Slow", "dropping", "keeping", "plain", "pointwise", "published",
    "secretive",
]  # fmt: skip


class Rescale:
    """Trains the linear layer at `layer` with a factor for each output.

    The factors start at one: with `fold` false, `restore` forgets them and is right until they
    are trained. Phases: "free", and "fixed", where the factors are not trained.
    """

    def __init__(self, *, layer: str = "fc2", fold: bool = True) -> None:
        self.layer, self.fold = layer, fold

    def apply(self, student: nn.Module) -> nn.Module:
        if self.layer not in dict(student.named_modules()):
            raise ValueError(f"layer: there is no {self.layer!r}")
        student = deepcopy(student)
        student.set_submodule(self.layer, Scaled(student.get_submodule(self.layer)))
        return student

    def enter(self, student: nn.Module, phase: str) -> None:
        if phase not in ("free", "fixed"):
            raise ValueError(f"phase: {phase!r} is not one of free, fixed")
        student.get_submodule(self.layer).scale.requires_grad_(phase == "free")

    def restore(self, student: nn.Module) -> nn.Module:
        student = deepcopy(student)
        scaled = student.get_submodule(self.layer)
        if self.fold:
            with torch.no_grad():
                scaled.linear.weight.mul_(scaled.scale[:, None])
                scaled.linear.bias.mul_(scaled.scale)
        student.set_submodule(self.layer, scaled.linear)
        return student


class Scaled(nn.Module):
    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear
        self.scale = nn.Parameter(torch.ones_like(linear.bias))

    def forward(self, value: Tensor) -> Tensor:
        return self.linear(value) * self.scale


class Faulty:
    """Does nothing, and one thing wrong.

    "keys": restored, the student has other state-dict keys; "classes": other classes under the
    same keys; "argument": `apply` changes what it is given.
    """

    def __init__(self, *, fault: Literal["keys", "classes", "argument"]) -> None:
        self.fault = fault

    def apply(self, student: nn.Module) -> nn.Module:
        if "fc2" not in dict(student.named_modules()):
            raise ValueError("there is no 'fc2'")
        applied = deepcopy(student)
        if self.fault == "argument":
            student.set_submodule("fc2", nn.Identity())
        return applied

    def enter(self, student: nn.Module, phase: str) -> None:
        raise ValueError(f"phase: {phase!r}, but there are none")

    def restore(self, student: nn.Module) -> nn.Module:
        student = deepcopy(student)
        if self.fault == "classes":
            student.set_submodule("relu_fc1", nn.LeakyReLU(0.0))
        return nn.Sequential(student) if self.fault == "keys" else student


class Fickle(Faulty):
    """Does nothing, but adds to the weight at `layer` at those `calls` of `restore`, from 1 on."""

    def __init__(self, *, calls: list[int], layer: str = "fc2") -> None:
        self.calls, self.layer, self.count, self.fault = calls, layer, 0, ""

    def restore(self, student: nn.Module) -> nn.Module:
        student = deepcopy(student)
        self.count += 1
        if self.count in self.calls:
            with torch.no_grad():
                student.get_submodule(self.layer).weight[:3] += 0.5
        return student


class Darker:
    """Scales an image's values by a factor between 1 - `most` and 1."""

    def __init__(self, *, most: float) -> None:
        self.most = most

    def __call__(self, image: Tensor) -> Tensor:
        return (image * (1 - self.most * torch.rand(()))).to(torch.uint8)


class Conditional:
    """A loss that reads the teacher's logits or a feature, or only asks whether there is one."""

    def __init__(self, *, read: Literal["logits", "features", False]) -> None:
        self.read = read

    def __call__(self, student, teacher, target) -> Tensor:
        assert teacher is not None
        said = {"logits": lambda: teacher.logits, "features": lambda: teacher.features["fc2"]}
        guide = said[self.read]() if self.read else 0
        return (student.logits - guide).square().mean()


class Pair(nn.Module):
    """Answers with two tensors, as networks with an auxiliary head do."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


def plain(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Return a network without BatchNorm: [B, in_channels, H, W] to logits [B, num_classes]."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


def pointwise(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Return `plain` behind a convolution of kernel 1."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 2, 1), *plain(num_classes=num_classes, in_channels=2)
    )


def secretive(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Return `plain` behind random numbers that its state dict does not hold."""
    network = plain(num_classes=num_classes, in_channels=in_channels)
    network[2].register_buffer("noise", torch.rand(4, 1, 1), persistent=False)
    network[2].register_forward_hook(lambda module, _, output: output * module.noise)
    return network


def keeping(
    *, num_classes: int, in_channels: int, norm: Literal["weight", "spectral", "none"]
) -> nn.Sequential:
    """Return `plain` with an old-style norm, or that keeps the tensors of its last forward."""
    network = plain(num_classes=num_classes, in_channels=in_channels)
    if norm == "none":
        network[2].register_forward_hook(lambda module, _, y: vars(module).update(last=[y]))
    else:
        with warnings.catch_warnings(action="ignore"):
            getattr(nn.utils, f"{norm}_norm")(network[0])
    return network


def published(*, num_classes: int, pretrained: bool = False) -> nn.Sequential:
    """Return `plain` for grey images, as a network with published weights stands in a recipe."""
    return plain(num_classes=num_classes, in_channels=1)


def dropping(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Return `plain` with BatchNorm, and dropout before its classifier."""
    network = plain(num_classes=num_classes, in_channels=in_channels)
    return network.insert(4, nn.Dropout(0.5)).insert(1, nn.BatchNorm2d(4))


class Slow:
    """A loss that takes its time: cross-entropy after `seconds` of sleep, in training only."""

    def __init__(self, *, seconds: float = 0.02) -> None:
        self.seconds = seconds

    def __call__(self, student, teacher, target) -> Tensor:
        time.sleep(self.seconds)
        return F.cross_entropy(student.logits, target)


class Otherwise(nn.Module):
    """`plain` that answers otherwise in train mode, as the networks of several libraries do.

    "aux": a named tuple with auxiliary logits; "dict" and "list" of outputs; "wide": one class
    more; "targets": needs them; "key": a KeyError of its own; "": the same.
    """

    def __init__(self, *, num_classes: int, in_channels: int, kind: str = "aux") -> None:
        super().__init__()
        self.network = plain(num_classes=num_classes, in_channels=in_channels)
        self.kind = kind

    def forward(self, images: Tensor) -> object:
        logits = self.network(images)
        if not self.training or not self.kind:
            return logits
        assert self.kind != "targets", "targets should not be none when in training mode"
        answers = {
            "aux": Auxiliary(logits, logits),
            "dict": {"out": logits, "aux": logits},
            "list": [logits],
            "wide": F.pad(logits, (0, 1)),
        }
        return answers[self.kind]


class ChannelsLast(nn.Module):
    """A network whose `map` is [B, H, W, 6], and `pairs` [B, 6, N, N]; `relu` runs twice."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(in_channels, 6, 4, stride=4), nn.Linear(6, num_classes)
        self.map, self.pairs, self.relu = nn.Linear(6, 6), nn.Identity(), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        value = self.map(self.relu(self.conv(images)).permute(0, 2, 3, 1))
        tokens = value.flatten(1, 2)
        self.pairs(torch.einsum("bnc,bmc->bcnm", tokens, tokens))
        return self.fc(self.relu(value).mean((1, 2)))


class Auxiliary(NamedTuple):
    logits: Tensor
    aux_logits: Tensor


class Ledger:
    """A tracker that keeps what it is told in `Ledger.told`, and draws random numbers.

    It fails once: when it is told `fail_at`, an epoch or the name of a method.
    """

    told: ClassVar[list[tuple]] = []

    def __init__(
        self, *, run_name: str, run_id: str | None = None, fail_at: int | str | None = None
    ) -> None:
        self.name, self.fail_at = run_name, fail_at
        assert run_id is None

    def _keep(self, what: str, at: int | str, *more: object) -> None:
        drawn = random.random(), np.random.rand(), torch.rand(())
        if self.fail_at == at:
            self.fail_at = None
            raise ConnectionError(f"no network, {len(drawn)} times")
        self.told.append((what, *more))

    def start(self) -> None:
        self._keep("start", "start", self.name)

    def store_init_configuration(self, values: dict) -> None:
        self._keep("config", "config", values)

    def log(self, values: dict, step: int | None = None) -> None:
        self._keep("log", step or 0, step, values)

    def finish(self) -> None:
        self._keep("finish", "finish")
