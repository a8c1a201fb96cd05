"""What networks are trained for: a data set brings its task (`kdx.protocols.Task`)."""

from math import sqrt

from kdx.protocols import ImageData, Numeric, Task
from kdx.tasks.classification import Classification as Classification
from kdx.tasks.classification import check_labels as check_labels
from kdx.tasks.detection import Detection as Detection
from kdx.tasks.fitting import check_loss as check_loss
from kdx.tasks.multilabel import MultiLabel as MultiLabel
from kdx.tasks.regression import Regression as Regression
from kdx.tasks.segmentation import Segmentation as Segmentation
from kdx.tasks.sums import Mean as Mean
from kdx.util.words import counted


def task_of(data: ImageData) -> Task:
    """Return the task of a data set: classification by default."""
    return data.task or Classification(num_classes=len(data.classes))


def primary_metric(task: Task) -> str:
    """Return the name of the metric that chooses the best epoch."""
    return next(iter(task.metrics))


def reached_by_luck(task: Task, images: int) -> float:
    """Return what chance reaches of the primary metric on so many images: two standard errors."""
    return task.chance + 2 * sqrt(task.chance * (1 - task.chance) / images)


def counted_outputs(task: Task, count: int) -> str:
    """Return what the networks of a task output, counted: "10 classes", "1 label", "2 outputs"."""
    if isinstance(task, Regression):
        return counted(count, "output")
    return counted(count, *(("label",) if isinstance(task, MultiLabel) else ("class", "classes")))


def numbers_of(task: Task) -> list[str]:
    """Return the names of the metrics that are not shares: see `kdx.util.words.measured`."""
    return ["loss", *(task.numbers if isinstance(task, Numeric) else ())]


def decisions_of(task: Task) -> tuple[int, ...] | None:
    """Return the shape of what is decided of an image; None if no two networks' are compared."""
    if task.spatial or isinstance(task, Regression):
        return None
    return (task.labels,) if isinstance(task, MultiLabel) else ()
