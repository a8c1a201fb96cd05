"""What one process counts while it trains."""

from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Tally"]


@dataclass
class Tally:
    """What one process counts while an epoch is under way.

    `sums` are of the terms over its samples, `seen` the number of these, `samples` that of all
    processes; `seconds` of training. Of the whole run: the steps that were `skipped`, and how
    many of them came last, `in_row`.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    seen: int = 0
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0
    in_row: int = 0

    def of_next_epoch(self) -> "Tally":
        """Return a new tally that goes on counting the run's."""
        return Tally(skipped=self.skipped, in_row=self.in_row)
