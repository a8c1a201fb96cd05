"""A teacher that is cheap and counts what it is asked, and a plan for what it says."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console
from torch import Tensor

from kdx.memo.memo import Memo
from kdx.memo.plan import Plan, feature
from kdx.memo.rows import Whole
from kdx.memo.use import plan_memos
from kdx.memo.use import remembering as all_remembering
from kdx.protocols import Outputs
from kdx.training.runtime import Runtime

__all__ = ["Oracle", "images", "plan", "plan_memo", "remembering"]

SAMPLES, VIEWS = 12, 2


class Oracle:
    """Answers images [B, 3] with logits [B, 3] and a feature "deep" [B, 2, 3].

    `asked` are the images of every call. With `dies`, that call kills the process.
    """

    paths = ("deep",)

    def __init__(self, *, scale: float = 1.0, dies: int = -1) -> None:
        self.scale, self.dies = scale, dies
        self.asked: list[int] = []

    def __call__(self, images: Tensor) -> Outputs:
        if len(self.asked) == self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        self.asked.append(len(images))
        logits = self.scale * images / 3
        return Outputs(logits, {"deep": torch.stack((logits, -logits), 1).square()})


def images(indices: Tensor, view: int = 0) -> Tensor:
    """Return the "images" [B, 3] of a view: other ones for every sample and view."""
    return torch.stack((indices + 1, indices * indices, 100 * view - indices), 1).float()


def plan(place, *, dtype="float16", logits=None, parts=None) -> Plan:
    """Return a plan of 12 samples x 2 views, the memo in `place` / memo."""
    codecs = {"logits": logits or Whole((3,), dtype), feature("deep"): Whole((2, 3), dtype)}
    return Plan(place / "memo", parts or {"dtype": dtype}, SAMPLES, VIEWS, codecs, limit=1e6)


def plan_memo(runtime: Runtime) -> Plan | None:
    """Return the plan of the only teacher's memo, if it has one."""
    return plan_memos(runtime).get("teacher")


@contextmanager
def remembering(runtime: Runtime, plan: Plan | None, console: Console) -> Iterator[Memo | None]:
    """Let a run read the only teacher's memo."""
    with all_remembering(runtime, {"teacher": plan} if plan else {}, console) as memos:
        yield memos.get("teacher")
