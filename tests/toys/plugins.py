"""Transforms, losses, an augmentation and a tracker."""

import random
import time
from copy import deepcopy
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Conditional", "Darker", "Faulty", "Fickle", "Ledger", "Rescale", "Slow"]


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


class Slow:
    """A loss that takes its time: cross-entropy after `seconds` of sleep, in training only."""

    def __init__(self, *, seconds: float = 0.02) -> None:
        self.seconds = seconds

    def __call__(self, student, teacher, target) -> Tensor:
        time.sleep(self.seconds)
        return F.cross_entropy(student.logits, target)


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
