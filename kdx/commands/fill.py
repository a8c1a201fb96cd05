"""Fill the memo of a recipe's teacher before the runs that use it."""

import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import track

from kdx.data import cut, train_loader
from kdx.data.views import Key
from kdx.launch.processes import join
from kdx.memo.memo import Memo
from kdx.memo.use import has_memo, plan_memos, remembering
from kdx.recipe import Recipe
from kdx.run.printed import describe
from kdx.run.run import ensure_teachers
from kdx.run.teacher_run import check_teachers
from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.workers import choose_workers
from kdx.util.printing import rule, say


def fill(recipe: Recipe, console: Console) -> None:
    """Run a recipe's teacher on all views that its memo should hold and does not hold yet.

    The batches are those of training, so that the values are the same to the bit; of several
    processes each runs its part. Raises ValueError for a recipe without a memo, and otherwise
    what `kdx.run.run.run` does.
    """
    places = [section.component.where for section in recipe.all_teachers.values()] or ["teacher"]
    if not has_memo(recipe):
        raise ValueError(
            f"no {places[0]}.memo in the recipe: add `memo: {{views: 5}}` to its `{places[0]}:`, "
            f"or pass `{places[0]}.memo.views=5`"
        )
    join(recipe)
    ensure_teachers(recipe, console)
    job = build(recipe)
    runtime = Runtime(job, accelerator_for(job))
    problems: list[str] = []
    plans = plan_memos(runtime, problems.append)
    if not plans:
        raise ValueError("; ".join([f"{places[0]}.memo: nothing to fill", *problems]))
    console.quiet = not runtime.accelerator.is_main_process
    rule(console, f"{recipe.name}: the teacher's memo")
    say(console, f"device   {describe(runtime)}")
    if recipe.data.workers == "auto":
        say(console, f"note     {choose_workers(runtime)}")
    check_teachers(runtime, console)
    with remembering(runtime, plans, console) as memos:
        for name, plan in plans.items():
            if name not in memos:
                raise ValueError(f"{plan.directory.parent}: the memo cannot be opened there")
            if len(plans) > 1:
                say(console, f"teacher  {name}")
            for view in range(plan.views):
                _fill_view(runtime, memos[name], view, console)
            say(console, f"memo     {int(100 * plan.filled())}% filled")


def _fill_view(runtime: Runtime, memo: Memo, view: int, console: Console) -> None:
    runtime.batches.set_epoch(view)
    started = time.perf_counter()
    count = _ask(runtime, memo, list(runtime.batches), console)
    runtime.accelerator.wait_for_everyone()
    if runtime.accelerator.is_main_process:  # the samples that the last batch of the epoch left out
        size = runtime.job.recipe.data.batch_size
        absent = np.flatnonzero(~memo.has(view, np.arange(memo.plan.samples))).tolist()
        keys = [(view, index) for index in absent]
        parts = [keys[i : i + size] for i in range(0, len(keys), size)]
        count += _ask(runtime, memo, parts, console)
    runtime.accelerator.wait_for_everyone()
    rate = count * runtime.world / (time.perf_counter() - started)
    speed = f"{rate:,.0f} images/s" if count else "already filled"
    say(console, f"view     {view + 1}/{memo.plan.views}  {speed}")


def _ask(runtime: Runtime, memo: Memo, batches: Sequence[list[Key]], console: Console) -> int:
    """Run the teacher on the batches that are not fully in the memo; return how many images."""

    def is_stored(keys: list[Key]) -> bool:
        return bool(memo.has(keys[0][0], np.array([index for _, index in keys])).all())

    wanted = [keys for keys in batches if not is_stored(keys)]
    if not wanted:
        return 0
    view, recipe = wanted[0][0][0], runtime.job.recipe
    loader = train_loader(runtime.job.train_views, wanted, **runtime.loading)
    hidden = console.quiet or not console.is_terminal
    for batch in track(loader, f"view {view + 1}", console=console, transient=True, disable=hidden):
        for images, _, indices in cut(batch, recipe.accumulate):
            with runtime.accelerator.autocast():
                memo(runtime.to_device(images), indices, view=view)
    return sum(map(len, wanted))
