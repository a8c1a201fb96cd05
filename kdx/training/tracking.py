"""The trackers of a run: started, told each epoch once, and never a reason to end the run."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console

from kdx.data.counter import generators_kept
from kdx.protocols import Tracker
from kdx.recipe import Component
from kdx.training.trackers import HAND_OVER, REACH, RUN_ID
from kdx.util.errors import reason
from kdx.util.files import write_whole
from kdx.util.printing import say

FILE = "trackers.json"
BOARD = "tensorboard"


@dataclass
class Record:
    """A tracker's own run, None if it cannot be continued, and the last epoch that it has."""

    run: str | None = None
    epoch: int = 0


_RECORDS = TypeAdapter(dict[str, Record])


class Tracking:
    """The trackers of the main process.

    A tracker that fails is noted once and left alone; what it missed is logged again at the end
    and by a resume. trackers.json has a `Record` of each, by which a resume continues its run.
    """

    def __init__(
        self,
        run_dir: Path,
        trackers: Sequence[Component],
        console: Console,
        *,
        name: str,
        config: Mapping[str, Any],
        resumed: bool = False,
    ) -> None:
        """Start all; `config` is the recipe by dotted keys, `resumed` continues earlier runs.

        Raises RecipeError if one does not start, and ValueError for a trackers.json that is not
        one; TensorBoard's earlier events are removed, as all epochs are logged again.
        """
        self.file, self.console = run_dir / FILE, console
        records = self._read() if resumed else {}
        self.records = {
            each.use: records.get(each.use, Record()) if each.use in RUN_ID else Record()
            for each in trackers
        }
        self.running: dict[str, Tracker] = {}
        self.failed: set[str] = set()
        self.noted: set[str] = set()
        shutil.rmtree(run_dir / BOARD, ignore_errors=True)
        about = {key: value for key, value in config.items() if not isinstance(value, dict)}
        if trackers and BOARD not in self.records:
            both = f"trackers: [{', '.join((BOARD, *self.records))}]"
            say(console, f"note     no TensorBoard, which trackers does not name: {both} has both")
        given = {"run_dir": run_dir, "run_name": name}
        try:
            with generators_kept():  # MLflow draws names from Python's
                made = [(each, self._built(each, given)) for each in trackers]
                # W&B first: it refuses more often than those that can be asked before.
                for each, tracker in sorted(made, key=lambda pair: pair[0].use != "wandb"):
                    self._start(each, tracker, about)
        except BaseException:  # Ctrl-C, too: those that have started are finished
            self.close()
            raise
        self._write()

    def log(self, epochs: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Log the metrics of epochs, in order, where a tracker does not have them."""
        for use, record in self.records.items():
            for epoch, values in epochs:
                if epoch > record.epoch and self._tell(
                    use, lambda t, *at: t.log(*at), values, epoch
                ):
                    record.epoch = epoch
        self._write()

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log more of an epoch that is logged already."""
        for use in self.running:
            self._tell(use, lambda t, *at: t.log(*at), dict(values), epoch)

    def finish(self, epochs: Sequence[tuple[int, dict[str, float]]], report: Path) -> None:
        """Log what is missing, and hand over the report and the pictures beside it."""
        self.failed.clear()
        self.log(epochs)
        pictures = sorted((report.parent / "pictures").glob("*.png"))
        for use in self.running:
            if use in HAND_OVER:
                self._tell(use, HAND_OVER[use], report, pictures, epochs[-1][0])

    def close(self) -> None:
        """Finish all; what fails then is noted, too."""
        self.failed.clear()
        for use in list(self.running):
            self._tell(use, lambda tracker: tracker.finish())
            del self.running[use]

    def _built(self, part: Component, provided: dict[str, Any]) -> Tracker:
        """Return a tracker that is not started; RecipeError if it is known that it cannot be."""
        tracker = part.build(**provided, run_id=self.records[part.use].run)
        try:
            if part.use in REACH:
                REACH[part.use](tracker)
        except Exception as error:  # a server's
            raise part.refusal(f"the tracker does not start: {reason(error)}") from error
        return tracker

    def _start(self, part: Component, tracker: Tracker, about: dict[str, Any]) -> None:
        record = self.records[part.use]
        try:
            tracker.start()
            self.running[part.use] = tracker
            if record.run is None and part.use != BOARD:
                tracker.store_init_configuration(about)
            if part.use in RUN_ID:
                record.run = RUN_ID[part.use](tracker)
        except Exception as error:  # a tracker may raise anything
            raise part.refusal(f"the tracker does not start: {reason(error)}") from error

    def _tell(self, use: str, do: Callable[..., None], *arguments: Any) -> bool:
        """Call `do` with a tracker, unless it failed before; return whether that worked."""
        if use in self.failed:
            return False
        try:
            with generators_kept():  # MLflow draws names from Python's
                do(self.running[use], *arguments)
        except Exception as error:  # a tracker may raise anything
            self.failed.add(use)
            if use not in self.noted:
                missed = "what it misses is logged again at the end, or by --resume"
                say(self.console, f"note     {use} failed; {missed}: {reason(error)}")
            self.noted.add(use)
            return False
        return True

    def _read(self) -> dict[str, Record]:
        if not self.file.is_file():
            return {}
        try:
            return _RECORDS.validate_json(self.file.read_bytes())
        except ValueError as error:
            remedy = "remove it, and the trackers start new runs"
            raise ValueError(f"{self.file}: damaged: {remedy}") from error

    def _write(self) -> None:
        kept = {use: record for use, record in self.records.items() if use in RUN_ID}
        if kept:
            write_whole(self.file, _RECORDS.dump_json(kept, indent=2) + b"\n")
