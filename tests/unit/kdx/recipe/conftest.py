"""Tables and a plug-in of the tests' own, so that recipes load without the other packages."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

PLUGIN = """
from collections.abc import Callable
from pathlib import Path
from typing import Any
from torch import nn
import torch
import os

__all__ = ["Blur", "Bad", "Digits", "Net", "Picky", "Positional", "Reserved", "absent", "anything",
           "blur", "constant", "digits", "multistep", "net", "number", "text", "Term", "Vague",
           "CrossEntropy", "maybe", "sizes", "either", "untold", "stepped", "Tensorial", "Numeric"]


class Net(nn.Module):
    def __init__(self, width: int = 4, *, num_classes: int = 10, in_channels: int, image_size: int):
        super().__init__()
        self.size = (width, num_classes, in_channels, image_size)

    def forward(self, images):
        return images


def net(width: int = 4, shape: tuple[int, int] = (1, 1), path: Path | None = None, *,
        num_classes: int) -> nn.Module:
    module = nn.Linear(1, num_classes)
    module.given = (width, shape, path)
    return module


class Picky(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        raise ValueError(f"width: {width} is odd")


class Term:
    def __init__(self, *, temperature: float = 4.0, layer: str | None = None):
        self.temperature = temperature

    def __call__(self, student, teacher, target):
        return student.logits.sum()


class CrossEntropy(nn.Module):
    def __init__(self, *, label_smoothing: float = 0.0, table: torch.Tensor | None = None):
        super().__init__()

    def forward(self, student, teacher, target):
        return student.logits.sum()


class Vague(Term):
    def __init__(self, *, temperature: float = 4.0, mode: "Unknown" = 1):
        pass


class Reserved(Term):
    def __init__(self, weight: float):
        pass


class Blur:
    def __init__(self, rate: int, *, select: str | list[str] = ""):
        self.rate = rate

    def apply(self, student):
        return student

    def enter(self, student, phase):
        pass

    def restore(self, student):
        return student


def blur(rate: int = 2):
    return Blur(rate) if rate else object()


class Bad:
    def apply(self):
        pass


class Digits:
    pass


def digits(root: str | None = None, *, channels: int = 1):
    from kdx.protocols import ImageData, InputSpec
    return ImageData(None, None, ["0", "1"], InputSpec(channels, 8, (0.0,), (1.0,)))


def anything(**arguments) -> Any:
    return nn.Identity() if not arguments else arguments


def constant():
    return lambda progress: 1.0


def multistep(milestones: list[int], gamma: float = 0.1):
    return lambda progress: gamma


class Tensorial(Term):
    def __call__(self, student, teacher, target) -> torch.Tensor:
        return student.logits.sum()


class Numeric:
    def __call__(self, step: int, steps: int, steps_per_epoch: int) -> float:
        return 1.0


def stepped(gamma: float = 0.1) -> Callable[[int, int, int], float]:
    return lambda step, steps, steps_per_epoch: gamma


def maybe() -> Term | None:
    return None


def either() -> Term | CrossEntropy:
    return Term()


def sizes() -> dict[str, int]:
    return {}


def untold() -> "Unknown":
    return None


def Positional(a, /, b=1):
    return nn.Identity()


def text():
    return "text"


number = 3
"""

MINIMAL = """\
data: {use: digits, batch_size: 32}
student: {use: smallnet}
"""


def _table(name: str, **entries: object) -> ModuleType:
    module = ModuleType(name)
    vars(module)["TABLE"] = entries
    return module


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Make the module `recipe_plugin` importable, and stand its contents in for kdx's tables."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "recipe_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "recipe_plugin", raising=False)
    import recipe_plugin as module  # pyright: ignore[reportMissingImports]

    tables = {
        "kdx.data.sets": {"digits": module.digits, "cifar10": module.digits},
        "kdx.models.students": {"smallnet": module.net},
        "kdx.losses": {
            "cross_entropy": module.CrossEntropy,
            **dict.fromkeys(("hint", "kd", "pkt"), module.Term),
        },
        "kdx.training.schedules": {"constant": module.constant, "multistep": module.multistep},
    }
    for name, entries in tables.items():
        monkeypatch.setitem(sys.modules, name, _table(name, **entries))
    yield module
    sys.modules.pop("recipe_plugin", None)


@pytest.fixture
def write(tmp_path, plugin):
    """Return a function that writes a recipe and returns its path, <tmp>/digits/plain.yaml."""

    def write(text: str | bytes = MINIMAL, name: str = "digits/plain.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write
