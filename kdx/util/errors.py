"""Errors that end a command with an exit code of their own, importable without torch."""

import re
from functools import partial
from pathlib import Path
from typing import Any

from kdx.util.words import in_bytes


class CertificateError(Exception):
    """The compact network differs from the trained one; nothing was exported."""


class TrainingError(Exception):
    """Training diverged: a loss, a gradient or a weight is NaN or Inf."""


class StudyError(Exception):
    """Runs of a study failed."""


class Stopped(Exception):
    """A signal asked to stop. `checkpoint` is what to resume from; `where` replaces it in words.

    `of_teacher`: it was training a teacher, which the same command continues.
    """

    of_teacher = False

    def __init__(self, checkpoint: Path | None = None, *, where: str = "") -> None:
        self.checkpoint = checkpoint
        default = f"saved in {checkpoint}" if checkpoint else "before the first step"
        super().__init__(f"stopped by a signal, {where or default}")
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the arguments: a pool sends errors back so."""
        return partial(type(self), where=self.where), (self.checkpoint,), vars(self)


def reason(error: Exception) -> str:
    """Return the message of an error, without C++'s stack, and plainly if memory was short."""
    if asked := re.search(r"tried to allocate (\d+) bytes", str(error)):
        return f"out of memory: {in_bytes(int(asked[1]))} more needed"
    text = re.split(r"\s*(?:Exception raised from|frame #0)", str(error))[0]
    expected = isinstance(error, TypeError | ValueError)
    return text if expected else f"{type(error).__name__}: {text}"
