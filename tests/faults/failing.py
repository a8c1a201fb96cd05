"""A network that fails in one process, at a chosen place of a run."""

import os
import signal
import time
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from tests.toys import plain

__all__ = ["failing"]

Kind = Literal["RuntimeError", "ValueError", "exit", "kill"]


def failing(
    *,
    num_classes: int,
    in_channels: int,
    note: str,
    rank: int,
    kind: Kind,
    place: Literal["setup", "training", "evaluation"],
    batch: int = 0,
    call: int = 1,
) -> nn.Sequential:
    """Return `tests.toys.plain`, which fails in the process `rank`; the time of it goes to `note`.

    In "setup" at once; else at its `call`-th batch of `batch` images in training or in eval mode:
    the size of the batch sets the places of a run apart.
    """
    network = plain(num_classes=num_classes, in_channels=in_channels)
    if int(os.environ.get("RANK", "0")) != rank:
        return nn.Sequential(nn.Identity(), *network)
    fault = Fault(kind, note, training=place == "training", batch=batch, call=call)
    if place == "setup":
        fault.happen()
    return nn.Sequential(fault, *network)


class Fault(nn.Module):
    def __init__(self, kind: Kind, note: str, *, training: bool, batch: int, call: int) -> None:
        super().__init__()
        self.kind, self.note = kind, note
        self.when, self.batch, self.left = training, batch, call

    def forward(self, images: Tensor) -> Tensor:
        if self.training == self.when and len(images) == self.batch:
            self.left -= 1
            if self.left == 0:
                self.happen()
        return images

    def happen(self) -> None:
        Path(self.note).write_text(str(time.time()), encoding="utf-8")
        if self.kind == "exit":
            os._exit(3)
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise {"ValueError": ValueError, "RuntimeError": RuntimeError}[self.kind]("7.png: damaged")
