"""Losses between pairs of layers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypedDict, TypeVar, Unpack, cast

import torch
from torch import Tensor, nn

from kdx.losses.shared import full_precision, need_teacher
from kdx.protocols import Outputs

M = TypeVar("M", bound=nn.Module)
LOGITS = ("", "")  # a pair that stands for the networks' outputs


class Layers(TypedDict, total=False):
    """`student_layer` and `teacher_layer`, or several pairs [student, teacher]: module paths."""

    student_layer: str
    teacher_layer: str
    layers: Sequence[Sequence[str]]


class PairLoss(nn.Module, ABC):
    """The sum over pairs of layers of a distance between the two features.

    ValueError unless one pair is given or several.
    """

    def __init__(self, **layers: Unpack[Layers]) -> None:
        super().__init__()
        self.pairs = layer_pairs(**layers)
        self.widths: dict[int, tuple[int, int]] = {}  # of the connectors, by pair

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; `target` is not read.

        ValueError without a teacher and for features that do not fit, with the layers' names.
        """
        values = []
        name = type(self).__name__.lower()
        for index, features in enumerate(read_pairs(name, self.pairs, student, teacher)):
            try:
                values.append(full_precision(self.distance)(*features, index))
            except ValueError as error:
                path, other = self.pairs[index]
                layers = f"student {path!r}, teacher {other!r}"
                raise ValueError(f"{name}: {layers}: {error}") from error
        return torch.stack(values).sum()

    @abstractmethod
    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar of pair `index`, from float32 at least; the teacher's is detached."""

    def connector(
        self, index: int, widths: tuple[int, int], like: Tensor, make: Callable[[int, int], M]
    ) -> M:
        """Return the module that maps the student's feature of pair `index` to the teacher's.

        `make(own width, teacher's)` makes it on the first call, in the dtype and on the device of
        `like`; it is trained and kept in checkpoints. ValueError if the widths change later.
        """
        name = f"regressor_{index}" if index else "regressor"
        if index not in self.widths:
            self.widths[index] = widths
            self.add_module(name, make(*widths).to(like))
        if widths != self.widths[index]:
            made = "the regressor was made for {} and {}".format(*self.widths[index])
            raise ValueError(f"{widths[0]} and {widths[1]} channels, but {made}")
        return cast("M", self.get_submodule(name))


def read_pairs(
    loss: str, pairs: Sequence[tuple[str, str]], student: Outputs, teacher: Outputs | None
) -> list[tuple[Tensor, Tensor]]:
    """Return the features of each pair, the teacher's detached; ValueError without a teacher."""
    outputs = need_teacher(teacher, loss)
    return [
        (student.logits, outputs.logits.detach())
        if (path, other) == LOGITS
        else (student.features[path], outputs.features[other].detach())
        for path, other in pairs
    ]


def layer_pairs(
    student_layer: str | None = None,
    teacher_layer: str | None = None,
    layers: Sequence[Sequence[str]] | None = None,
) -> list[tuple[str, str]]:
    """Return the pairs of `Layers`; ValueError unless one pair is given or several."""
    if (student_layer is None) != (teacher_layer is None) or (layers is None) == (
        student_layer is None
    ):
        raise ValueError(
            "layers: give `student_layer` and `teacher_layer`, or several pairs, "
            "`layers: [[student, teacher], ...]`"
        )
    if student_layer is not None and teacher_layer is not None:
        return [(student_layer, teacher_layer)]
    for index, pair in enumerate(layers or ()):
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"layers[{index}]: {pair!r} is not a pair [student, teacher]")
    if not layers:
        raise ValueError("layers: empty: give pairs, [[student, teacher], ...]")
    return [(student, teacher) for student, teacher in layers]
