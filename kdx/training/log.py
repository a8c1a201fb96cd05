"""What a run writes while it trains: progress on the terminal, metrics on disk."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from kdx.training.tracking import Tracking
from kdx.util.files import append, write_whole
from kdx.util.printing import say
from kdx.util.words import measured

METRICS = "metrics.jsonl"


class RunLog:
    """Writes in the main process; in others every call does nothing.

    `metrics.jsonl` gets a line per epoch, the trackers the same numbers; what is there already is
    removed. The terminal shows `primary_metric` of each evaluation; `numbers` are not shares.
    """

    def __init__(
        self,
        run_dir: Path,
        console: Console,
        *,
        epochs: int,
        primary_metric: str = "top1",
        numbers: Collection[str] = (),
        main: bool = True,
        tracking: Tracking | None = None,
    ) -> None:
        self.directory, self.console, self.epochs = run_dir, console, epochs
        self.primary_metric, self.numbers = primary_metric, numbers
        self.main, self.tracking = main, tracking
        if main:
            run_dir.mkdir(parents=True, exist_ok=True)
            (run_dir / METRICS).unlink(missing_ok=True)

    @contextmanager
    def progress(
        self, stage: str, epoch: int, steps: int
    ) -> Iterator[Callable[[int, Mapping[str, Tensor | float], int], None]]:
        """Show a bar for an epoch; yield a function of the step, sums of losses, and samples.

        Without a terminal it does nothing, so that no device has to be waited for.
        """
        if not self.main or not self.console.is_terminal:
            yield lambda step, sums, samples: None
            return
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}", markup=False), TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(f"{stage} {epoch}/{self.epochs}", total=steps, losses="")

            def show(step: int, sums: Mapping[str, Tensor | float], samples: int) -> None:
                means = [f"{n} {float(value) / max(1, samples):.3f}" for n, value in sums.items()]
                bar.update(task, completed=step, losses="  ".join(means))

            yield show

    def epoch(self, epoch: int, stage: str, values: Mapping[str, float]) -> None:
        """Record an epoch: a line on the terminal and in metrics.jsonl, points in the trackers.

        The terminal has a second line if gradients were diagnosed.
        """
        if not self.main:
            return
        line = json.dumps({"epoch": epoch, "stage": stage, **values})
        append(self.directory / METRICS, f"{line}\n")
        if self.tracking:
            self.tracking.log([(epoch, dict(values))])
        say(self.console, self._line(epoch, stage, values))
        if gradients := _gradients(values):
            say(self.console, f"{'':>{len(f'{self.epochs}') * 2 + 1}} gradients  {gradients}")

    def resume(self, metrics: str) -> None:
        """Begin with the lines of the checkpoint that the run is resumed from."""
        if not self.main:
            return
        write_whole(self.directory / METRICS, metrics)
        if self.tracking:
            self.tracking.log(self._epochs())

    def exported(self, values: Mapping[str, float]) -> None:
        """Add what was measured at the end to the last epoch's line, and in the trackers."""
        if not self.main or not values:
            return
        *before, last = self.lines().splitlines(keepends=True)
        line = json.loads(last) | values
        write_whole(self.directory / METRICS, f"{''.join(before)}{json.dumps(line)}\n")
        if self.tracking:
            self.tracking.add(line["epoch"], values)

    def finish(self) -> None:
        """Hand what the finished run has written over to the trackers."""
        if self.tracking:
            self.tracking.finish(self._epochs(), self.directory / "report.md")

    def lines(self) -> str:
        """Return the content of metrics.jsonl."""
        path = self.directory / METRICS
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def close(self) -> None:
        """Finish writing."""
        if self.tracking:
            self.tracking.close()

    def _epochs(self) -> list[tuple[int, dict[str, float]]]:
        """Return the numbers of each epoch so far."""
        found = [json.loads(line) for line in self.lines().splitlines()]
        return [
            (line["epoch"], {n: v for n, v in line.items() if n not in ("epoch", "stage")})
            for line in found
        ]

    def _line(self, epoch: int, stage: str, values: Mapping[str, float]) -> str:
        """` 3/30 train  loss 3.449 (cross_entropy 0.538, kd 3.773)  test 91.94%  1,366 img/s`."""
        losses = {name[5:]: value for name, value in values.items() if name.startswith("loss/")}
        total = losses.pop("total")
        weights = {name: values.get(f"weight/{name}") for name in losses}
        terms = ", ".join(
            f"{name} {value:.3f}" + ("" if weights[name] is None else f" x {weights[name]:.3g}")
            for name, value in losses.items()
        )
        parts = [f"{epoch:>{len(str(self.epochs))}}/{self.epochs} {stage}"]
        parts.append(f"loss {total:.3f}" + (f" ({terms})" if len(losses) > 1 else ""))
        for name, value in values.items():
            split, _, metric = name.partition("/")
            if metric in (self.primary_metric, "agreement"):
                shown = measured(metric, value, self.numbers)
                parts.append(f"{split if metric == self.primary_metric else metric} {shown}")
        parts.append(f"{values['images_per_second']:,.0f} img/s")
        return "  ".join(parts)


def _gradients(values: Mapping[str, float]) -> str:
    """`cross_entropy 1.23, kd 14.1 (cosine 0.83, suggested 0.087)`; empty if not diagnosed."""
    shown = []
    for name in (key.partition("/")[2] for key in values if key.startswith("gradient/")):
        cosine, suggested = values.get(f"cosine/{name}"), values.get(f"suggested/{name}")
        more = [] if cosine is None else [f"cosine {cosine:z.2f}"]
        more += [] if suggested is None else [f"suggested {suggested:g}"]
        text = f" ({', '.join(more)})" if more else ""
        shown.append(f"{name} {values[f'gradient/{name}']:.3g}{text}")
    return ", ".join(shown)
