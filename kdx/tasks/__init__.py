"""What networks are trained for: a data set brings its task (`kdx.protocols.Task`)."""

from kdx.protocols import ImageData, Task
from kdx.tasks.classification import Classification as Classification
from kdx.tasks.classification import check_labels as check_labels
from kdx.tasks.detection import Detection as Detection
from kdx.tasks.segmentation import Segmentation as Segmentation


def task_of(data: ImageData) -> Task:
    """Return the task of a data set: classification by default."""
    return data.task or Classification(num_classes=len(data.classes))


def primary_metric(task: Task) -> str:
    """Return the name of the metric that chooses the best epoch."""
    return next(iter(task.metrics))
