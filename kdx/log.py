"""What a run writes while it runs: progress on the terminal, metrics on disk, checkpoints."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from kdx import checkpoints
from kdx.checkpoints import Checkpoint
from kdx.objective import Objective
from kdx.protocols import InputSpec
from kdx.recipe import Stage

__all__ = ["RunLog"]


class RunLog:
    """Writes for the main process; for the others every call does nothing.

    `metrics.jsonl` gets a line an epoch, TensorBoard the same numbers. Of the checkpoints, the
    newest and the best are kept.
    """

    def __init__(
        self,
        run_dir: Path,
        console: Console,
        *,
        epochs: int,
        input: InputSpec,
        classes: int,
        extra: Mapping[str, Any] | None = None,
        main: bool = True,
    ) -> None:
        self.directory, self.console, self.epochs, self.main = run_dir, console, epochs, main
        self.input, self.classes, self.extra = input, classes, extra
        self.best: Path | None = None
        self.newest: Path | None = None
        self.board = SummaryWriter(str(run_dir / "tensorboard")) if main else None

    @contextmanager
    def progress(
        self, stage: str, epoch: int, steps: int
    ) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
        """Show a bar for an epoch; yields a function to call with the step and the losses."""
        if not (self.main and self.console.is_terminal):
            yield lambda step, losses: None
            return
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}", markup=False), TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(f"{stage} {epoch}/{self.epochs}", total=steps, losses="")

            def show(step: int, losses: Mapping[str, float]) -> None:
                text = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
                bar.update(task, completed=step, losses=text)

            yield show

    def epoch(self, epoch: int, stage: str, values: Mapping[str, float]) -> None:
        """Record an epoch: a line on the terminal and in metrics.jsonl, points in TensorBoard."""
        if not self.main:
            return
        with (self.directory / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": epoch, "stage": stage, **values}) + "\n")
        assert self.board is not None
        for name, value in values.items():
            self.board.add_scalar(name, value, epoch)
        line = _line(epoch, self.epochs, stage, values)
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def checkpoint(
        self,
        objective: Objective,
        epoch: int,
        stage: Stage,
        metrics: Mapping[str, float],
        *,
        best: bool,
    ) -> None:
        """Save a checkpoint, then remove those that are neither the newest nor the best."""
        if not self.main:
            return
        directory = self.directory / "checkpoints"
        state = Checkpoint(epoch, stage.name, stage.phase, metrics)
        self.newest = checkpoints.save(
            directory,
            objective,
            state,
            input=self.input,
            classes=self.classes,
            extra=self.extra,
        )
        self.best = self.newest if best else self.best
        checkpoints.prune(directory, {p for p in (self.newest, self.best) if p})

    def close(self) -> None:
        """Finish writing."""
        if self.board is not None:
            self.board.close()


def _line(epoch: int, epochs: int, stage: str, values: Mapping[str, float]) -> str:
    """` 3/30 train  loss 3.449 (cross_entropy 0.538, kd 3.773)  test 91.94%  1,366 img/s`."""
    losses = {name[5:]: value for name, value in values.items() if name.startswith("loss/")}
    total = losses.pop("total")
    terms = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
    parts = [f"{epoch:>{len(str(epochs))}}/{epochs} {stage}"]
    parts.append(f"loss {total:.3f}" + (f" ({terms})" if len(losses) > 1 else ""))
    for name, value in values.items():
        split, _, metric = name.partition("/")
        if metric in ("top1", "agreement"):
            parts.append(f"{split if metric == 'top1' else metric} {value:.2%}")
    parts.append(f"{values['images_per_second']:,.0f} img/s")
    return "  ".join(parts)
