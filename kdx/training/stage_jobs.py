"""The stages of a job, each tried on a batch before the first step: losses, optimizer, phase."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import nn

from kdx.data.views import Batch
from kdx.models.teacher import Teacher
from kdx.models.transforms import enter, products
from kdx.protocols import StudentTransform, Task
from kdx.recipe import Recipe, Stage
from kdx.recipe.errors import Problem, RecipeError, each_of
from kdx.recipe.stages import LossTerm
from kdx.tasks import check_loss
from kdx.training.checks import lack_of_compact
from kdx.training.objective import Objective
from kdx.training.optimizers import rehearse, stage_optimizer
from kdx.training.schedules import Schedule
from kdx.training.terms import Term
from kdx.util.errors import reason


@dataclass(frozen=True)
class StageJob:
    """A stage, ready to run. `unused` names the parameters that get no gradient.

    `is_compact`: the student has a compact equivalent, which can be averaged.
    """

    stage: Stage
    objective: Objective
    schedule: Schedule
    unused: Sequence[str]
    is_compact: bool = True


@dataclass(frozen=True)
class StageBuilder:
    """Builds stages, and tries each on a batch.

    `known` are the facts that losses are told; `student` is a copy with the `transforms` of the
    `compact` network, which goes through the phases; `probe` is a batch.
    """

    recipe: Recipe
    task: Task
    known: Mapping[str, Any]
    student: nn.Module
    compact: nn.Module
    transforms: Sequence[StudentTransform]
    teachers: Mapping[str, Teacher]
    probe: Batch

    def build(self, at: tuple[int, Stage]) -> StageJob:
        """Build a stage, the one after those built before; RecipeError for what does not fit."""
        index, stage = at
        try:
            enter(self.student, self.transforms, stage.phase)
        except ValueError as error:
            raise _refusal(f"stages[{index}].phase", str(error).removeprefix("phase: ")) from error
        terms = each_of(self._term, stage.losses)
        objective = Objective(self.student, terms, compact=self.compact, epochs=stage.epochs)
        images, targets, indices = self.probe
        objective.probe(images, targets, self.teachers, indices)
        lack = self._lack_of_compact(index, objective)
        outputs = {name: each(images) for name, each in self.teachers.items()}
        unused = objective.unused(images, targets, outputs, indices)
        self._rehearse(stage, objective)  # fails now, not in training
        schedule = self._schedule(stage)
        return StageJob(stage, objective, schedule, unused, is_compact=not lack)

    def _schedule(self, stage: Stage) -> Schedule:
        """Build the schedule, and ask it for the first and the last factor of the stage."""
        schedule, part = stage.schedule.build(), stage.schedule
        an_epoch = -(-self.known["train_images"] // self.recipe.data.batch_size)
        steps = stage.epochs * an_epoch
        for step in (0, steps - 1):
            try:
                factor = schedule(step, steps, an_epoch)
            except Exception as error:  # it may be anybody's
                raise part.refusal(f"fails at step {step}: {reason(error)}") from error
            if not isinstance(factor, int | float) or not 0 <= factor < inf:
                found = f"{factor!r} at step {step} of {steps}"
                raise part.refusal(f"returned {found}, not a finite number of at least 0")
        return schedule

    def _lack_of_compact(self, index: int, objective: Objective) -> str:
        """Say why the student cannot be averaged, if an average is asked for; empty if it can."""
        is_read = any(self.teachers[name].average for name in objective.reads)
        asked = is_read or self.recipe.average
        lack = lack_of_compact(self.student, self.transforms) if asked else ""
        if lack and is_read:
            what = "the student's moving average is of its compact weights"
            raise _refusal(f"stages[{index}]", f"{what}, and {lack}")
        return lack

    def _term(self, section: LossTerm) -> Term:
        """Build a loss; it is told the network of the teacher that it learns from, if it is one."""
        part, shares = section.component, section.shares(self.teachers)
        if unknown := [name for name in shares if name not in self.teachers]:
            raise part.refusal(f"the recipe has no teacher {unknown[0]!r}: it has no `teachers:`")
        networks = [self.teachers[name].module for name in shares]
        network = networks[0] if len(networks) == 1 else None
        loss = part.build(**self.known, teacher_network=network)
        try:
            check_loss(self.task, loss)
        except ValueError as error:
            raise part.refusal(str(error)) from error
        return Term(section.name, section.weight_at, loss, f"{part.place}: {part.where}", shares)

    def _rehearse(self, stage: Stage, objective: Objective) -> None:
        """Build the optimizer of a stage, and take a step with it; RecipeError if refused."""
        with torch.no_grad():
            folded = products(objective.student, self.transforms)
        stage_optimizer(stage.optimizer, objective, self.compact, folded)
        rehearse(stage.optimizer.component, list(objective.parameters()))


def _refusal(where: str, message: str) -> RecipeError:
    return RecipeError([Problem("", where, message)])
