"""The memo of a loop: planned before anything is written, shown, and open while it is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from rich.console import Console
from torch import Tensor

from kdx.memo.memo import Memo
from kdx.memo.plan import Plan, make_plan
from kdx.memo.room import check_room
from kdx.training.runtime import Runtime

__all__ = ["plan_memo", "remembering", "show"]


def plan_memo(runtime: Runtime) -> Plan | None:
    """Plan the memo of a loop's recipe; None where it has none. Nothing is written.

    Raises ValueError for one that cannot be, or does not fit: see `make_plan`, `check_room`.
    """
    job = runtime.job
    if job.teacher is None or job.recipe.teacher is None or job.recipe.teacher.memo is None:
        return None
    precision = runtime.accelerator.mixed_precision
    plan = make_plan(job.recipe, job.teacher, job.train_views, precision=precision)
    check_room(plan)
    return plan


@contextmanager
def remembering(runtime: Runtime, plan: Plan | None, console: Console) -> Iterator[Memo | None]:
    """Let the loop ask the memo, where there is a plan of one, instead of the teacher.

    At the end it says how many rows were damaged: on all processes together, so that all must
    come there.
    """
    if plan is None:
        yield None
        return
    teacher, guide = runtime.job.teacher, runtime.teacher_outputs
    assert teacher is not None, "there is no memo without a teacher"
    show(plan, console, "memo     ")
    with runtime.accelerator.main_process_first():  # whose notes are printed
        memo = Memo(plan, teacher)
    for note in memo.notes:
        console.print(f"note     {note}", highlight=False, soft_wrap=True)
    runtime.teacher_outputs = memo
    try:
        yield memo
        if damaged := _over_processes(runtime, memo.damaged()):
            rows = f"{damaged:,} of {plan.views * plan.samples:,} rows of the memo were damaged"
            console.print(f"note     {rows} and computed anew", highlight=False, soft_wrap=True)
    finally:
        runtime.teacher_outputs = guide
        memo.close()


def _over_processes(runtime: Runtime, count: int) -> int:
    counts = torch.tensor(count, device=runtime.accelerator.device)
    return int(cast("Tensor", runtime.accelerator.reduce(counts, "sum")))


def show(plan: Plan, console: Console, heading: str) -> None:
    """Print what a memo holds and how full it is, and why it is a new one."""
    text = f"{heading}{plan}; {int(100 * plan.filled())}% filled"
    if plan.unlike:
        text += f"\n{heading}new, since {', '.join(plan.unlike)}"
    console.print(text, highlight=False, soft_wrap=True, markup=False)
