"""Where training stands."""

from dataclasses import dataclass, field

__all__ = ["Progress"]


@dataclass
class Progress:
    """Training's place and tallies; changes as it goes on, the same in every process.

    `stage` counts from 0, `epoch` the epochs done in it, `step` the optimizer steps done in the
    epoch under way, `epochs` the epochs done in all stages. `last` and `best` are metrics of the
    evaluation split; `best_checkpoint` is the name of the best epoch's. `seconds` and `images`
    are of training alone; `skipped` counts the steps that were left out as not finite.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    epochs: int = 0
    seconds: float = 0.0
    images: int = 0
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_checkpoint: str | None = None
    skipped: int = 0

    @property
    def name(self) -> str:
        """The name of the checkpoint of this place: `epoch_0007`, `epoch_0007_step_000123`."""
        within = f"_step_{self.step:06d}" if self.step else ""
        return f"epoch_{self.epochs:04d}{within}"
