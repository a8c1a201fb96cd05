"""Which of kdx's losses suit which of its tasks."""

from kdx.losses import BCE, BCEKD, CrossEntropy, TfKD
from kdx.losses.logits import LogitLoss
from kdx.losses.regression import Distance
from kdx.protocols import Loss, Task
from kdx.tasks.classification import Classification
from kdx.tasks.multilabel import MultiLabel
from kdx.tasks.regression import Regression
from kdx.tasks.segmentation import Segmentation

KINDS = (
    ((Classification, Segmentation), "one class an image or pixel", "cross_entropy", "kd"),
    ((MultiLabel,), "several labels an image", "bce", "bce_kd"),
    ((Regression,), "numbers", "mse, l1 or smooth_l1", "these with `to: teacher`"),
)


def check_loss(task: Task, loss: Loss) -> None:
    """Raise ValueError for a loss of kdx on targets of another kind than the task's.

    Losses on features suit every task, and so do those on the teacher's outputs alone.
    """
    own = next((n for n, (tasks, *_) in enumerate(KINDS) if isinstance(task, tasks)), None)
    wanted = _kind(loss)
    if None in (own, wanted) or own == wanted:
        return
    _, has, use, distilling = KINDS[own or 0]
    needs = f"a loss for {KINDS[wanted or 0][1]}, but the data set has {has}"
    raise ValueError(f"{needs}: use {use}, or {distilling} to learn from a teacher")


def _kind(loss: Loss) -> int | None:
    if isinstance(loss, CrossEntropy | LogitLoss | TfKD):
        return 0
    if isinstance(loss, BCE | BCEKD):
        return 1
    return 2 if isinstance(loss, Distance) and loss.to == "target" else None
