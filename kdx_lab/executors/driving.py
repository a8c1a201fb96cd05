"""Runs by an executor: teachers first, then the rest, until all have ended or a signal comes."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdx.data.counter import generators_kept
from kdx.launch.stopping import SIGNALS
from kdx.recipe import Recipe
from kdx.run.directory import is_finished
from kdx.run.teacher_run import teacher_recipes
from kdx.training.job import build
from kdx.util.errors import Stopped, StudyError, reason
from kdx_lab.executors.task import Executor, task_of

__all__ = ["Driver", "asked_to_stop", "check_alone"]

PAUSE = 0.1  # seconds between two looks at the runs
DELAY = 10.0  # seconds until files that another machine has written are seen


def _nothing(name: str) -> None:
    pass


@dataclass
class Driver:
    """Runs recipes by an executor; their output goes to files below `logs`.

    `asked` gets a number when a signal asks for a stop. `started` and `teaching` are told the names
    of the runs and of the teachers that begin.
    """

    executor: Executor
    logs: Path
    asked: Sequence[int]
    teaching: Callable[[str], object] = _nothing

    def train_teachers(self, recipes: Sequence[Recipe]) -> dict[str, str]:
        """Train the teachers whose weights are missing, and theirs before; StudyError if one fails.

        First mistakes of the students are looked for, until one run of each folder is without:
        returns why others failed, by name. ValueError as `teacher_recipes`; Stopped after a signal.
        """
        wrong = self._mistakes(recipes)
        recipes = [recipe for recipe in recipes if recipe.name not in wrong]
        while missing := _missing(recipes):
            for name in missing:
                self.teaching(name)
            failed: dict[str, str] = {}
            self.run(list(missing.values()), ended=failed.__setitem__)
            if lines := [f"{name}: {why}" for name, why in failed.items() if why]:
                raise StudyError(f"teacher {'; '.join(lines)}")
        return wrong

    def _mistakes(self, recipes: Sequence[Recipe]) -> dict[str, str]:
        found: dict[str, str] = {}
        right = set()
        for recipe in recipes if _missing(recipes) else ():
            if recipe.run_dir.parent not in right and teacher_recipes(recipe):
                if why := _mistake(recipe):
                    found[recipe.name] = f"before its teacher is trained: {why}"
                else:
                    right.add(recipe.run_dir.parent)
                if self.asked:
                    raise Stopped
        return found

    def run(
        self,
        recipes: Sequence[Recipe],
        *,
        started: Callable[[str], object] = _nothing,
        ended: Callable[[str, str], object],
        is_over: Callable[[str], bool] = lambda name: False,
    ) -> None:
        """Run recipes; `ended` is told their names, and why they failed or "".

        A run that `is_over` is stopped. After a signal all are stopped with checkpoints, and
        Stopped is raised.
        """
        executor, left, running = self.executor, {recipe.name for recipe in recipes}, set()
        places = {recipe.name: recipe.run_dir for recipe in recipes}
        tasks = [task_of(each, self.logs, threads=executor.threads) for each in recipes]
        logs, stopped = {task.name: task.log for task in tasks}, set()
        try:
            if tasks:
                executor.submit(tasks)
            while left:
                found = executor.poll()
                if self.asked:  # what the same signal has ended has not failed
                    raise Stopped
                for name, over in found.items():
                    if name not in running:
                        running.add(name)
                        started(name)
                    if over:
                        why = executor.fetch(name)
                        if not why and name not in stopped and not _has_results(places[name]):
                            why = f"it ended without results in {places[name]}"
                        left.remove(name)
                        ended(name, f"{why} (log: {logs[name]})" if why else "")
                    elif name not in stopped and is_over(name):
                        stopped.add(name)
                        executor.cancel(name)
                time.sleep(PAUSE)
        finally:
            executor.cancel()


def _has_results(run_dir: Path) -> bool:
    """Return whether a run is finished here; a network file system may show its end later."""
    until = time.monotonic() + DELAY
    while not (found := is_finished(run_dir)) and time.monotonic() < until:
        time.sleep(PAUSE)
    return found


def _mistake(recipe: Recipe) -> str:
    """Build a student and its losses, with random teachers; return what is wrong, "" if nothing."""
    try:
        with generators_kept():  # of no GPU, which the runs may want for themselves
            build(recipe, teacher_weights=False)
    except Exception as error:  # of a plug-in, too
        return reason(error)
    return ""


def _missing(recipes: Sequence[Recipe]) -> dict[str, Recipe]:
    """Return the recipes of teachers to train now: those that lack no teacher of their own."""
    found: dict[str, Recipe] = {}
    seen = set()
    for recipe in recipes:
        files = tuple(str(teacher.weights) for teacher in recipe.all_teachers.values())
        if files not in seen:
            seen.add(files)
            first = list(teacher_recipes(recipe).values())
            found |= {each.name: each for each in first} | _missing(first)
    return {name: each for name, each in found.items() if not teacher_recipes(each)}


def check_alone() -> None:
    """Raise ValueError if a launcher has started this process as one of several."""
    if (world := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ValueError(
            f"WORLD_SIZE={world}: `kdx study` is started once, without a launcher. To train each "
            f"run in {world} processes, set overrides.processes={world}"
        )


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """Collect the signals that ask for a stop, except those that nohup ignores."""
    asked: list[int] = []
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {n: signal.signal(n, lambda number, frame: asked.append(number)) for n in heard}
    try:
        yield asked
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
