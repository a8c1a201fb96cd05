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
from kdx.util.printing import say

NEVER_CHANGE = "without augmentation the teacher's outputs never change"
BY_DEFAULT = f"on by default: {NEVER_CHANGE} (teacher.memo: false turns it off)"
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

    Without `teacher.memo` there is one if views never change and it fits; `say` is told why not.
    Raises ValueError, as `make_plan` and `check_room`, if the recipe asks for it. All processes
    call it.
    """
    job = runtime.job
    section = job.recipe.teacher
    if section and section.memo:
        return _plan(runtime, section)
    if section is None or not has_memo(job.recipe) or not _recur(job.train_views):
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
    """Let a run read the memo, if one is planned; prints at the end how many rows were damaged.

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
        say(console, f"note     {OFF}: {problem}")
        yield None
        return
    for note in memo.notes:
        say(console, f"note     {note}")
    runtime.teacher_outputs, runtime.batches.views = memo, plan.views
    try:
        yield memo
        if damaged := _over_processes(runtime, memo.damaged()):
            rows = f"{damaged:,} of {plan.views * plan.samples:,} rows of the memo were damaged"
            say(console, f"note     {rows} and computed again")
    finally:
        runtime.teacher_outputs, runtime.batches.views = guide, views
        memo.close()


def show(plan: Plan, console: Console, heading: str, *, trained: bool = True) -> None:
    """Print what a memo holds, why it is new and, if the teacher is `trained`, where it is."""
    lines = [] if plan.asked else [BY_DEFAULT]
    lines.append(str(plan) if trained else f"{plan.rows()}, once there is a teacher")
    if plan.unlike and trained:
        lines.append(f"new, since {', '.join(plan.unlike)}")
    say(console, *(heading + line for line in lines))


def _plan(runtime: Runtime, section: Teacher) -> Plan:
    job, precision = runtime.job, runtime.accelerator.mixed_precision
    if not (section.memo or job.recipe.locations.holds("runs/memos")):
        raise ValueError(f"{job.recipe.memos_dir} leads out of the output root")
    assert job.teacher is not None, "a recipe's teacher is built"
    plan = make_plan(job.recipe, job.teacher, job.train_views, precision=precision)
    check_room(plan)
    return plan


def _recur(views: Views) -> bool:
    """Return whether images are the same in every epoch: plug-ins may have their own transforms."""
    if isinstance(views.source, DatasetImages):  # there is no telling: its transforms may be rare
        return False
    indices = range(min(PROBED, len(views)))
    seen = [views.__getitems__([(epoch, i) for i in indices]).images for epoch in range(EPOCHS)]
    return all(torch.equal(seen[0], images) for images in seen[1:])


def _over_processes(runtime: Runtime, count: int) -> int:
    counts = torch.tensor(count, device=runtime.accelerator.device)
    return int(cast("Tensor", runtime.accelerator.reduce(counts, "sum")))
