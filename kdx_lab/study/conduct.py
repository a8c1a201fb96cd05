"""Running a study: teachers first, then the unfinished cells, then the tables."""

from pathlib import Path

from rich.console import Console

from kdx.checkpoints import any_at
from kdx.run.directory import check_apart, is_finished
from kdx.util.errors import Stopped, StudyError
from kdx.util.files import locked
from kdx.util.printing import say
from kdx.util.words import counted, listed
from kdx_lab.executors.driving import Driver, asked_to_stop, check_alone
from kdx_lab.executors.task import Executor
from kdx_lab.study.display import Display, collected
from kdx_lab.study.finished import check_finished
from kdx_lab.study.grid import Grid
from kdx_lab.study.results import kept_failures, write_results
from kdx_lab.study.tables import live_table
from kdx_lab.study.verdict import verdict

__all__ = ["LOGS", "conduct", "report"]

LOGS = "logs"
AGAIN = (
    "Run the same command to resume them from their last checkpoints; to start one from scratch, "
    "remove its run directory"
)


def conduct(grid: Grid, console: Console, executor: Executor, *, command: str = "") -> Path:
    """Run what is not finished of a study, and write its tables; return its directory.

    `command` is the command line that the results show. Raises FileExistsError if another process
    runs the study, ValueError for finished runs of another recipe, Stopped if a signal asks for it,
    and StudyError at the end if runs failed.
    """
    check_alone()
    place = grid.directory
    place.parent.mkdir(parents=True, exist_ok=True)
    busy = f"{place}: another `kdx study` runs this study: wait for it, or stop it"
    with locked(place.with_name(f".{place.name}.lock"), busy=busy), asked_to_stop() as asked:
        driver = Driver(executor, grid.directory / LOGS, asked,
                        lambda name: say(console, f"teacher  {name} is trained first"))  # fmt: skip
        if grid.study.tune:
            from kdx_lab.tuning.tune import tuned

            try:
                grid = tuned(grid, driver, lambda text: say(console, text))
            except Stopped as stopped:
                raise Stopped(where="while values were tuned") from stopped
        display = _conduct(grid, console, driver, command)
    if display.failures:
        count = counted(len(display.failures), "run")
        failed = listed([f"{name}: {why}" for name, why in display.failures.items()], "\n  ")
        raise StudyError(f"{count} of {grid.name} failed:\n  {failed}\n{AGAIN}")
    return grid.directory


def _conduct(grid: Grid, console: Console, driver: Driver, command: str) -> Display:
    """Run the cells, report them, and return what was displayed, with the failures."""
    check_finished(grid)
    todo = [cell for cell in grid.cells if not is_finished(cell.run_dir)]
    for cell in todo:
        if not any_at(cell.run_dir):
            check_apart(cell.run_dir)
    done = counted(len(grid.cells) - len(todo), "is finished", "are finished")
    say(console, f"study    {grid.name}: {counted(len(grid.cells), 'run')}, of which {done}")
    display, recipes = Display(grid, console), [cell.recipe for cell in todo]
    try:
        wrong = driver.train_teachers(recipes)
        with display.shown():
            for name, why in wrong.items():
                display.begin(name)
                display.end(name, why)
            recipes = [recipe for recipe in recipes if recipe.name not in wrong]
            driver.run(recipes, started=display.begin, ended=display.end)
    except Stopped as stopped:
        done = f"{len(display.results.runs)} of {counted(len(grid.cells), 'run')} done"
        raise Stopped(stopped.checkpoint, where=f"with {done}") from stopped
    finally:
        _report(grid, console, command, display.failures)
    return display


def report(grid: Grid, console: Console, *, command: str = "") -> None:
    """Write tables and figures of the finished runs, and print the table.

    ValueError for finished runs of another recipe, and for a study that has not been tuned.
    """
    if grid.study.tune:
        from kdx_lab.tuning.folder import TUNE
        from kdx_lab.tuning.tune import FILE, changed, chosen

        if not (found := chosen(grid)):
            raise ValueError(
                f"{grid.directory / FILE}: not tuned as the study asks: "
                f"{'; '.join(changed(grid))}. Run the study to tune it, without its directory "
                f"`{TUNE}` if an arm has another recipe than its trials"
            )
        grid = found
    check_finished(grid)
    _report(grid, console, command, {})


def _report(grid: Grid, console: Console, command: str, failures: dict[str, str]) -> None:
    """Report, including runs that failed earlier and have not been run since."""
    study = grid.study
    results = collected(grid, kept_failures(grid.directory) | failures)
    title = study.title or grid.name
    about = {"description": study.description, "command": command}
    if study.tune:
        from kdx_lab.tuning.tune import described

        about["tuning"] = described(grid)
    write_results(grid.directory, results, title=title, **about)
    console.print(live_table(results, title=title))
    say(console, *verdict(results))
    say(console, f"results  {grid.directory / 'results.md'}")
