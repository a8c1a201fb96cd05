"""The memo of a run: planned before anything is written, shown, and open while it is used."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import ceil

import torch
from rich.console import Console

from kdx.data import DatasetImages, Views
from kdx.memo.memo import Memo
from kdx.memo.plan import Plan, check_room, make_plan
from kdx.recipe import Recipe
from kdx.recipe.sections import Teacher
from kdx.training.runtime import Runtime
from kdx.util.printing import say
from kdx.util.words import counted

NEVER_CHANGE = "without augmentation the teacher's outputs never change"
BY_DEFAULT = f"on by default: {NEVER_CHANGE} (`memo: false` of the teacher turns it off)"
OFF = "the memo is off, and the teacher runs at every step"
PROBED, EPOCHS = 8, 3  # images, in the epochs in which they are compared
OFTEN = 10  # times that a view is seen: 5 to 8 were enough, 40 cost a point (docs/results.md)


def has_memo(recipe: Recipe) -> bool:
    """Return whether a recipe asks for a memo, or may have one by default."""
    return any(_wanted(section, recipe) for section in recipe.all_teachers.values())


def _wanted(section: Teacher, recipe: Recipe) -> bool:
    return bool(section.memo) or (section.memo is not False and not _changes(recipe))


def _changes(recipe: Recipe) -> bool:
    return bool(recipe.data.augment.changes or recipe.data.mixup or recipe.data.cutmix)


def plan_memos(runtime: Runtime, say: Callable[[str], None] = lambda text: None) -> dict[str, Plan]:
    """Plan the memos of a run, by teacher; others run at every step. Writes nothing.

    Without `teacher.memo` there is one if views never change and it fits; `say` gets the
    reason if not, and is told of views that recur often. Raises ValueError, as `make_plan` and
    `check_room`, if the recipe asks for it. All processes call it.
    """
    planned = {name: _plan_one(runtime, name, say) for name in runtime.job.teachers}
    plans = {name: plan for name, plan in planned.items() if plan}
    given = {f"{plan.key}.views": plan.views for plan in plans.values() if plan.asked}
    if len({*given.values()}) > 1:
        listed = ", ".join(f"{key}: {count}" for key, count in given.items())
        raise ValueError(f"{listed}: a run has one number of views: make them the same")
    if given:
        _note_few(runtime, *next(iter(given.items())), say)
    return {n: p for n, p in plans.items() if not given or p.views in given.values()}


def _note_few(runtime: Runtime, key: str, views: int, say: Callable[[str], None]) -> None:
    """Say if views recur often, and the recipe may have more of them."""
    data = runtime.job.recipe.data
    one = data.repeats > 1 or data.sampling == "balanced"  # with a memo, one view of a sample
    epochs = sum(each.stage.epochs for each in runtime.job.stages)
    if _changes(runtime.job.recipe) and not one and epochs > OFTEN * views:
        say(
            f"{key}: {views}: each view is seen about {round(epochs / views)} times in "
            f"{counted(epochs, 'epoch')}, which may cost accuracy if images are few: try more, "
            f"such as {ceil(epochs / OFTEN)}"
        )


def _plan_one(runtime: Runtime, name: str, say: Callable[[str], None]) -> Plan | None:
    job = runtime.job
    section, average = job.recipe.all_teachers[name], job.teachers[name].average
    if section.memo:
        return _plan(runtime, name)
    if average or not _wanted(section, job.recipe) or not _recur(job.train_views):
        return None
    try:
        plan, problem = _plan(runtime, name), ""
    except ValueError as error:
        plan, problem = None, str(error)
    if runtime.sum(torch.tensor(plan is None, dtype=torch.int64)):
        reason = problem.removeprefix(f"{section.component.where}.memo: ")
        say(f"{OFF}: {reason or 'another process cannot have it'}")
        return None
    return plan


@contextmanager
def remembering(
    runtime: Runtime, plans: Mapping[str, Plan], console: Console
) -> Iterator[dict[str, Memo]]:
    """Let a run read the planned memos, by teacher.

    A memo by default that cannot be opened is left out, with a note. Prints at the end how many
    rows were damaged, over all processes: all must come there.
    """
    teacher_fns, views = runtime.teacher_fns, runtime.batches.views
    with ExitStack() as stack:
        opened = {name: _open(runtime, name, plan, console) for name, plan in plans.items()}
        memos = {name: memo for name, memo in opened.items() if memo}
        for memo in memos.values():
            stack.callback(memo.close)
            runtime.batches.views = memo.plan.views
        runtime.teacher_fns = {**teacher_fns, **memos}
        try:
            yield memos
            for memo in memos.values():
                if damaged := int(runtime.sum(torch.tensor(memo.damaged()))):
                    rows = memo.plan.views * memo.plan.samples
                    text = f"{damaged:,} of {rows:,} rows of the memo were damaged"
                    say(console, f"note     {text} and computed again")
        finally:
            runtime.teacher_fns, runtime.batches.views = teacher_fns, views


def _open(runtime: Runtime, name: str, plan: Plan, console: Console) -> Memo | None:
    which = f"{name}: " if len(runtime.job.teachers) > 1 else ""
    show(plan, console, f"memo     {which}")
    memo, problem = None, "another process cannot open it"
    with runtime.accelerator.main_process_first():  # whose notes are printed
        try:
            memo = Memo(plan, runtime.job.teachers[name])
        except OSError as error:
            if plan.asked:
                raise
            problem = str(error)
    if runtime.sum(torch.tensor(memo is None, dtype=torch.int64)) or memo is None:
        if memo:
            memo.close()
        say(console, f"note     {OFF}: {problem}")
        return None
    for note in memo.notes:
        say(console, f"note     {note}")
    return memo


def show(plan: Plan, console: Console, heading: str, *, trained: bool = True) -> None:
    """Print what a memo holds, why it is new and, if the teacher is `trained`, where it is."""
    lines = [] if plan.asked else [BY_DEFAULT]
    lines.append(str(plan) if trained else f"{plan.rows()}, once there is a teacher")
    if plan.unlike and trained:
        lines.append(f"new, since {', '.join(plan.unlike)}")
    say(console, *(heading + line for line in lines))


def _plan(runtime: Runtime, name: str) -> Plan:
    job = runtime.job
    section = job.recipe.all_teachers[name]
    precision = section.precision or runtime.accelerator.mixed_precision
    place = job.recipe.memos_dir(section)
    if not (section.memo or job.recipe.locations.holds("runs/memos")):
        raise ValueError(f"{place} leads out of the output root")
    teacher, views = job.teachers[name], job.train_views
    plan = make_plan(section, teacher, views, directory=place, precision=precision)
    check_room(plan)
    return plan


def _recur(views: Views) -> bool:
    """Return whether images are the same in every epoch: plug-ins may have their own transforms."""
    if isinstance(views.source, DatasetImages):  # there is no telling: its transforms may be rare
        return False
    indices = range(min(PROBED, len(views)))
    seen = [views.__getitems__([(epoch, i) for i in indices]).images for epoch in range(EPOCHS)]
    return all(torch.equal(seen[0], images) for images in seen[1:])
