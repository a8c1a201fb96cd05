"""How far a run has come."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import ConfigDict, Field

NAME = r"^epoch_\d{4,9}$"
Natural = Annotated[int, Field(ge=0)]


@dataclass
class Progress:
    """Counters and metrics of a run, the same in every process.

    `stage` counts from 0, `epoch` the finished epochs of the stage, `step` the optimizer steps
    done in the current epoch, `epochs` the finished epochs of all stages. `last` and `best` are
    metrics of the evaluation split; `best_checkpoint` is the name of the best epoch's checkpoint.
    `last_average` are the last metrics of the average of the student, empty without one; `best` are
    the better of the two's, `best_is_average` if those of the average.
    `train` are the last metrics of the training images, empty unless the recipe asks for them.
    `seconds` and `images` are of training only. `waited` counts the evaluated epochs of the stage
    since one was the best of the run; `stopped_early` says after which epoch, and why, the last
    stage ended before its time.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # when read from a file
    stage: Natural = 0
    epoch: Natural = 0
    step: Natural = 0
    epochs: Natural = 0
    seconds: float = 0.0
    images: Natural = 0
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    last_average: dict[str, float] = field(default_factory=dict)
    best_is_average: bool = False
    train: dict[str, float] = field(default_factory=dict)
    best_epoch: Natural = 0
    best_checkpoint: Annotated[str, Field(pattern=NAME)] | None = None
    waited: Natural = 0
    stopped_early: str | None = None

    @property
    def name(self) -> str:
        """The name of the checkpoint: `epoch_0007`, `epoch_0007_step_000123`."""
        within = f"_step_{self.step:06d}" if self.step else ""
        return f"epoch_{self.epochs:04d}{within}"

    def forget_best(self) -> None:
        """Choose the best epoch among those to come."""
        self.best, self.best_epoch, self.best_checkpoint = {}, 0, None
        self.best_is_average = False
