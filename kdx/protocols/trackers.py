"""The contract of experiment trackers: that of Accelerate's `GeneralTracker`."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Tracker(Protocol):
    """Logs a run to an experiment tracker. If a method raises, training continues without it.

    Its factory gets `run_dir`, `run_name` and `run_id` if it names them: the directory and the name
    of the run, and the tracker's own run to continue, None for a new one.
    """

    def start(self) -> None:
        """Begin to record; called once, before anything else."""
        ...

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Record the recipe, by dotted keys: strings, numbers, booleans and None."""
        ...

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        """Record the metrics of epoch `step`, counted from 1."""
        ...

    def finish(self) -> None:
        """End the record."""
        ...
