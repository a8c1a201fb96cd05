"""What a terminal shows of a running study: a live table, or elsewhere one line per run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live

from kdx.run.directory import is_finished
from kdx.training.log import METRICS
from kdx.util.printing import plain, say
from kdx.util.words import counted
from kdx_lab.study.cell import Cell
from kdx_lab.study.collecting import collect
from kdx_lab.study.grid import Grid
from kdx_lab.study.rows import Results
from kdx_lab.study.tables import live_table

__all__ = ["Display", "collected"]


class Display:
    """Shows the cells of a grid, and collects why some failed, by `str(cell)`."""

    def __init__(self, grid: Grid, console: Console) -> None:
        self.grid, self.console = grid, console
        self.cells = {cell.recipe.name: cell for cell in grid.cells}
        self.failures: dict[str, str] = {}
        self.running: dict[str, float] = {}  # when they began
        self.results = collected(grid, {})
        self.left = sum(not is_finished(cell.run_dir) for cell in grid.cells)
        self.first: float | None = None
        self.done = 0

    def begin(self, name: str) -> None:
        """Show that a run trains."""
        self.running[name] = time.monotonic()
        self.first = self.first or self.running[name]

    def end(self, name: str, reason: str) -> None:
        """Show that a run has ended."""
        cell, seconds = self.cells[name], time.monotonic() - self.running.pop(name)
        self.left, self.done = self.left - 1, self.done + 1
        if reason:
            self.failures[str(cell)] = reason
        self.results = collected(self.grid, self.failures)
        if not self.console.is_terminal:
            say(self.console, f"{cell}: {reason or f'done in {seconds:,.0f} s'}; {self._left()}")

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
        cells = [self.cells[name] for name in self.running]
        lines = [f"{cell}: {_progress(cell)}" for cell in cells]
        text = plain(self.console, "\n".join([*lines, self._left()]))
        running = tuple(map(str, cells))
        return Group(live_table(self.results, running=running, title=self.grid.name), text)

    def _left(self) -> str:
        """Return how many runs are left, and about how long they will take."""
        if not self.left:
            return "all runs are done"
        left = counted(self.left, "run is", "runs are")
        if not self.done or self.first is None:
            return f"{left} left"
        minutes = (time.monotonic() - self.first) / self.done * self.left / 60
        return f"{left} left, {'under a minute' if minutes < 1 else f'about {minutes:,.0f} min'}"


def collected(grid: Grid, failures: dict[str, str]) -> Results:
    """Return the results of the finished runs of a grid."""
    study = grid.study
    found = collect(grid.cells, baseline=study.baseline, failures=failures, errors=study.errors)
    return replace(found, tuned=study.tune is not None)


def _progress(cell: Cell) -> str:
    """Return which epoch a run is in, from the number of lines in metrics.jsonl."""
    epochs = sum(stage.epochs for stage in cell.recipe.resolved_stages())
    try:
        done = (cell.run_dir / METRICS).read_bytes().count(b"\n")
    except OSError:
        done = 0
    return f"epoch {min(done + 1, epochs)} of {epochs}"
