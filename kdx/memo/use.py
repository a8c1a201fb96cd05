"""The memo of a run: planned before anything is written, shown, and open while it is used."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from rich.console import Console
from torch import Tensor

from kdx.data import DatasetImages, Views
from kdx.memo.memo import Memo
from kdx.memo.plan import Plan, check_room, make_plan
from kdx.recipe import Recipe
from kdx.recipe.sections import Teacher
from kdx.training.runtime import Runtime

BY_DEFAULT = (
    "on by default: without augmentation the teacher's outputs never change "
    "(teacher.memo: false turns it off)"
)
OFF = "the memo is off, and the teacher runs at every step"
PROBED, EPOCHS = 8, 3  # images, in the epochs in which they are compared


def has_memo(recipe: Recipe) -> bool:
    """Return whether a recipe asks for a memo, or may have one by default."""
    teacher = recipe.teacher
    if teacher is None or teacher.memo is False:
        return False
    return bool(teacher.memo) or not recipe.data.augment.model_dump(exclude_defaults=True)


def plan_memo(runtime: Runtime, say: Callable[[str], None] = lambda text: None) -> Plan | None:
    """Plan the memo of a run; None if the teacher is to run at every step. Writes nothing.

    A recipe without `teacher.memo` has one if its views never change and the memo fits; `say` is
    told why not. Raises ValueError for a memo that the recipe asks for and that cannot be: see
    `make_plan`, `check_room`. All processes call it.
    """
    job = runtime.job
    section = job.recipe.teacher
    if section is None or not has_memo(job.recipe):
        return None
    if section.memo:
        return _plan(runtime, section)
    if not _recur(job.train_views):
        return None
    try:
        plan, problem = _plan(runtime, section), ""
    except ValueError as error:
        plan, problem = None, str(error)
    if _over_processes(runtime, int(plan is None)):
        reason = problem.removeprefix("teacher.memo: ") or "another process cannot have it"
        say(f"{OFF}: {reason}")
        return None
    return plan


@contextmanager
def remembering(runtime: Runtime, plan: Plan | None, console: Console) -> Iterator[Memo | None]:
    """Let a run read the memo, if there is a plan of one, instead of running the teacher.

    A memo by default that cannot be opened is left out, with a note. Prints at the end how many
    rows were damaged, over all processes: all must come there.
    """
    if plan is None:
        yield None
        return
    teacher, guide, views = runtime.job.teacher, runtime.teacher_outputs, runtime.batches.views
    assert teacher is not None, "there is no memo without a teacher"
    show(plan, console, "memo     ")
    memo, problem = None, "another process cannot open it"
    with runtime.accelerator.main_process_first():  # whose notes are printed
        try:
            memo = Memo(plan, teacher)
        except OSError as error:
            if plan.asked:
                raise
            problem = str(error)
    if _over_processes(runtime, int(memo is None)) or memo is None:
        if memo:
            memo.close()
        console.out(f"note     {OFF}: {problem}")
        yield None
        return
    for note in memo.notes:
        console.print(f"note     {note}", highlight=False, soft_wrap=True)
    runtime.teacher_outputs, runtime.batches.views = memo, plan.views
    try:
        yield memo
        if damaged := _over_processes(runtime, memo.damaged()):
            rows = f"{damaged:,} of {plan.views * plan.samples:,} rows of the memo were damaged"
            console.print(f"note     {rows} and computed again", highlight=False, soft_wrap=True)
    finally:
        runtime.teacher_outputs, runtime.batches.views = guide, views
        memo.close()


def show(plan: Plan, console: Console, heading: str, *, trained: bool = True) -> None:
    """Print what a memo holds and how full it is, and why it is a new one.

    Its place depends on the teacher's weights: it is unknown before the teacher is `trained`.
    """
    lines = [] if plan.asked else [BY_DEFAULT]
    lines.append(str(plan) if trained else f"{plan.rows()}, once there is a teacher")
    if plan.unlike and trained:
        lines.append(f"new, since {', '.join(plan.unlike)}")
    text = "\n".join(heading + line for line in lines)
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _plan(runtime: Runtime, section: Teacher) -> Plan:
    job, precision = runtime.job, runtime.accelerator.mixed_precision
    if not (section.memo or job.recipe.locations.holds("runs/memos")):
        raise ValueError(f"{job.recipe.memos_dir} leads out of the output root")
    assert job.teacher is not None, "a recipe's teacher is built"
    plan = make_plan(job.recipe, job.teacher, job.train_views, precision=precision)
    check_room(plan)
    return plan


def _recur(views: Views) -> bool:
    """Return whether a few images look the same in three epochs.

    Even without augmentation a data set of a plug-in may have random transforms of its own.
    """
    if isinstance(views.source, DatasetImages):  # there is no telling: its transforms may be rare
        return False
    seen = [
        views.__getitems__([(epoch, index) for index in range(min(PROBED, len(views)))])
        for epoch in range(EPOCHS)
    ]
    return all(torch.equal(seen[0].images, other.images) for other in seen[1:])


def _over_processes(runtime: Runtime, count: int) -> int:
    counts = torch.tensor(count, device=runtime.accelerator.device)
    return int(cast("Tensor", runtime.accelerator.reduce(counts, "sum")))
