"""The losses of a recipe, with their weights over time, and its stages."""

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, InstanceOf

from kdx.recipe.arguments import Component
from kdx.recipe.fields import Count, Finite, Label, Name, TeacherShares, either
from kdx.recipe.optimizing import Optimizer
from kdx.recipe.resuming import Resume
from kdx.recipe.sections import MOST, Section

Entry = TypeVar("Entry", bound=Any)

_Weight = Annotated[Finite, Field(ge=0)]
_Epochs = Annotated[Finite, Field(gt=0)]


class Ramp(Section):
    """A weight that changes linearly, epoch by epoch, until it is `to` from epoch `epochs` on.

    `epochs` are those of the stage from 1 on, and a share of them below 1. `from` itself is not
    used: the first epoch has the first step.
    """

    start: Annotated[Finite, Field(ge=0, alias="from")] = 0.0
    to: _Weight
    epochs: _Epochs


_NEW = Resume(since="0.2.0", absent=None)


class LossTerm(Section):
    """One term of the objective: `weight` times the loss, logged as `name`.

    The weight is 0 from epoch `until` of the stage on; below 1 it is a share of its epochs. Of
    several teachers, `teacher` names the one to learn from, or gives each a share in the mean of
    their probabilities, which is of all, equally, without it.
    """

    component: InstanceOf[Component]
    weight: Annotated[_Weight | Ramp, either(Ramp, _Weight, off=())] = 1.0
    until: Annotated[_Epochs | None, _NEW] = None
    teacher: Annotated[TeacherShares, _NEW] = None
    name: Name = ""

    def shares(self, teachers: Collection[str]) -> dict[str, float]:
        """Return the teachers that it learns from, out of all by name, with their shares."""
        given = self.teacher
        if isinstance(given, str):
            return {given: 1.0}
        return given or dict.fromkeys(teachers, 1.0)

    def weight_at(self, epoch: int, epochs: int) -> float:
        """Return the weight in an epoch, counted from 0, of a stage of `epochs`."""
        if self.until is not None and epoch >= _in_epochs(self.until, epochs):
            return 0.0
        if not isinstance(self.weight, Ramp):
            return self.weight
        done = min(1.0, (epoch + 1) / _in_epochs(self.weight.epochs, epochs))
        return self.weight.start + (self.weight.to - self.weight.start) * done

    @property
    def shown(self) -> str:
        """The weight and the name: "0.9 kd", "(0 to 9 by epoch 20) kd", "1 kd until 50%"."""
        if not isinstance(weight := self.weight, Ramp):
            text = f"{weight:g}"
        else:
            text = f"({weight.start:g} to {weight.to:g} by {_shown_epochs(weight.epochs)})"
        until = "" if self.until is None else f" until {_shown_epochs(self.until)}"
        shares = self.shares(()).items()
        alone = len(shares) < 2
        teachers = " and ".join(n if alone or s == 1 else f"{n} x {s:g}" for n, s in shares)
        return f"{text} {self.name}{teachers and f' of {teachers}'}{until}"


def _in_epochs(given: float, epochs: int) -> float:
    return given * epochs if given < 1 else given


def _shown_epochs(given: float) -> str:
    return f"{given:.0%}" if given < 1 else f"epoch {given:g}"


def name_terms(terms: list[LossTerm]) -> list[LossTerm]:
    """Return the terms, named by default after the last part of `use`, in lower case."""
    return _named(terms, [re.split("[.:]", t.component.use)[-1].lower() for t in terms], "terms")


def _named(entries: list[Entry], defaults: Sequence[str], what: str) -> list[Entry]:
    """Return `entries` with a name each: those given, else the defaults, numbered if taken.

    Raises ValueError if two were given the same name.
    """
    names = [entry.name for entry in entries if entry.name]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two {what} are named {twice[0]!r}")
    named = []
    for entry, default in zip(entries, defaults, strict=True):
        numbered = (default, *(f"{default}_{n + 2}" for n in range(len(entries))))
        names.append(entry.name or next(name for name in numbered if name not in names))
        named.append(entry.model_copy(update={"name": names[-1]}))
    return named


Losses = Annotated[list[LossTerm], Field(min_length=1, max_length=MOST), AfterValidator(name_terms)]


class StageSection(Section):
    """A stage as written: what it leaves out is the recipe's."""

    name: Name = ""
    phase: Label | None = None
    epochs: Count | None = None
    losses: Losses | None = None
    optimizer: Optimizer | None = None
    schedule: InstanceOf[Component] | None = None


def name_stages(stages: list[StageSection]) -> list[StageSection]:
    """Return the stages, named by default after the phase, else by number ("stage2").

    A single stage is "train".
    """
    plain = ["train"] if len(stages) == 1 else [f"stage{n}" for n, _ in enumerate(stages, start=1)]
    defaults = [stage.phase or name for stage, name in zip(stages, plain, strict=True)]
    return _named(stages, defaults, "stages")
