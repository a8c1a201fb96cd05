"""Running a study: the teacher first, then the unfinished cells, then the tables."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live

from kdx.checkpoints import any_at
from kdx.run.directory import check_apart, is_finished
from kdx.run.run import ensure_teachers
from kdx.training.log import METRICS
from kdx.util.errors import Stopped, StudyError
from kdx.util.printing import plain, say
from kdx.util.words import counted, listed
from kdx_lab.study.cell import Cell
from kdx_lab.study.finished import check_finished
from kdx_lab.study.grid import Grid
from kdx_lab.study.results import kept_failures, write_results
from kdx_lab.study.rows import Results, collect
from kdx_lab.study.running import Finished, run_here, stopping, world_size
from kdx_lab.study.tables import live_table
from kdx_lab.study.workers import run_in_processes

__all__ = ["conduct", "report"]

LOGS = "logs"
AGAIN = (
    "Run the same command to resume them from their last checkpoints; to start one from scratch, "
    "remove its run directory"
)


def conduct(grid: Grid, console: Console, *, jobs: int = 1, command: str = "") -> Path:
    """Run what is not finished of a study, and write its tables; return its directory.

    With `jobs` above 1 that many runs train at a time, in processes of their own. `command` is the
    command line that the results show. Raises ValueError for finished runs of another recipe,
    Stopped if a signal asks for it, and StudyError at the end if runs failed.
    """
    if jobs > 1 and world_size() > 1:
        raise ValueError(
            f"--jobs {jobs} cannot be combined with a launcher of several processes, which train "
            "each run together: use one of the two"
        )
    main = int(os.environ.get("RANK", "0")) == 0
    console.quiet |= not main
    check_finished(grid)
    todo = [cell for cell in grid.cells if not is_finished(cell.run_dir)]
    for cell in todo:
        if not any_at(cell.run_dir):
            check_apart(cell.run_dir)
    done = counted(len(grid.cells) - len(todo), "is finished", "are finished")
    say(console, f"study    {grid.name}: {counted(len(grid.cells), 'run')}, of which {done}")
    display = _Display(grid, console, jobs=min(jobs, max(1, len(todo))))
    with stopping():
        _teach(todo, console)
        try:
            _run(grid, todo, display, jobs=jobs)
        except Stopped as stopped:
            done = f"{len(display.results.runs)} of {counted(len(grid.cells), 'run')} done"
            raise Stopped(stopped.checkpoint, where=f"with {done}") from stopped
        finally:
            if main:
                _report(grid, console, command, display.failures)
    if display.failures:
        count = counted(len(display.failures), "run")
        failed = listed([f"{name}: {why}" for name, why in display.failures.items()], "\n  ")
        raise StudyError(f"{count} of {grid.name} failed:\n  {failed}\n{AGAIN}")
    return grid.directory


def _run(grid: Grid, todo: Sequence[Cell], display: "_Display", *, jobs: int) -> None:
    logs, begun = grid.directory / LOGS, display.begin
    finished = (
        run_here(todo, logs, begun=begun)
        if jobs == 1
        else run_in_processes(todo, logs, jobs=jobs, begun=begun)
    )
    with display.shown(), closing(finished):
        for each in finished:
            display.end(each)


def report(grid: Grid, console: Console, *, command: str = "") -> None:
    """Write the tables and plots of the finished runs, and print the table.

    ValueError for finished runs of another recipe.
    """
    check_finished(grid)
    _report(grid, console, command, {})


def _report(grid: Grid, console: Console, command: str, failures: dict[str, str]) -> None:
    """Report, including runs that failed earlier and have not been run since."""
    study = grid.study
    results = _collect(grid, kept_failures(grid.directory) | failures)
    title = study.title or grid.name
    write_results(
        grid.directory, results, title=title, description=study.description, command=command
    )
    console.print(live_table(results, title=title))
    say(console, f"results  {grid.directory / 'results.md'}")


def _collect(grid: Grid, failures: dict[str, str]) -> Results:
    return collect(
        grid.cells, baseline=grid.study.baseline, failures=failures, errors=grid.study.errors
    )


def _teach(cells: Sequence[Cell], console: Console) -> None:
    """Train teachers without weights first, since several runs may need the same one."""
    seen = set()
    for cell in cells:
        files = {str(teacher.weights) for teacher in cell.recipe.all_teachers.values()}
        if not files <= seen:
            seen |= files
            ensure_teachers(cell.recipe, console)


class _Display:
    """The display of a running study: a live table on a terminal, else one line per run."""

    def __init__(self, grid: Grid, console: Console, *, jobs: int) -> None:
        self.grid, self.console, self.jobs = grid, console, jobs
        self.failures: dict[str, str] = {}
        self.running: dict[str, Cell] = {}
        self.results = _collect(grid, {})
        self.times: list[float] = []
        self.left = sum(not is_finished(cell.run_dir) for cell in grid.cells)
        self.started: dict[str, float] = {}

    def begin(self, cell: Cell) -> None:
        """Show that a cell runs."""
        self.running[str(cell)], self.started[str(cell)] = cell, time.monotonic()

    def end(self, finished: Finished) -> None:
        """Show that a cell has ended."""
        name = str(finished.cell)
        del self.running[name]
        self.left -= 1
        self.times.append(time.monotonic() - self.started[name])
        if finished.reason:
            self.failures[name] = finished.reason
        self.results = _collect(self.grid, self.failures)
        if not self.console.is_terminal:
            ended = finished.reason or f"done in {self.times[-1]:,.0f} s"
            say(self.console, f"{name}: {ended}; {self._left()}")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table while runs are under way."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, get_renderable=self._render, refresh_per_second=1,
                  transient=True):  # fmt: skip
            yield

    def _render(self) -> Group:
        lines = [f"{name}: {_progress(cell)}" for name, cell in self.running.items()]
        text = plain(self.console, "\n".join([*lines, self._left()]))
        return Group(
            live_table(self.results, running=tuple(self.running), title=self.grid.name), text
        )

    def _left(self) -> str:
        """Return how many runs are left, and about how long they will take."""
        if not self.left:
            return "all runs are done"
        left = counted(self.left, "run is", "runs are")
        if not self.times:
            return f"{left} left"
        mean = sum(self.times) / len(self.times)
        minutes = self.left * mean / self.jobs / 60
        return f"{left} left, {'under a minute' if minutes < 1 else f'about {minutes:,.0f} min'}"


def _progress(cell: Cell) -> str:
    """Return which epoch a run is in, from the number of lines in metrics.jsonl."""
    epochs = sum(stage.epochs for stage in cell.recipe.resolved_stages())
    try:
        done = (cell.run_dir / METRICS).read_bytes().count(b"\n")
    except OSError:
        done = 0
    return f"epoch {min(done + 1, epochs)} of {epochs}"
