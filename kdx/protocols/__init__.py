"""The contracts between kdx and what plugs into it. Imports nothing else of kdx."""

from kdx.protocols.data import DatasetFactory, ImageData
from kdx.protocols.images import (
    Batched,
    Comparable,
    ImageSource,
    InputSpec,
    Key,
    Labelled,
    SceneSource,
)
from kdx.protocols.networks import (
    Holding,
    Loss,
    NetworkFactory,
    Outputs,
    Planned,
    StudentTransform,
)
from kdx.protocols.tasks import IGNORED, Meter, Task

__all__ = [
    "IGNORED",
    "Batched",
    "Comparable",
    "DatasetFactory",
    "Holding",
    "ImageData",
    "ImageSource",
    "InputSpec",
    "Key",
    "Labelled",
    "Loss",
    "Meter",
    "NetworkFactory",
    "Outputs",
    "Planned",
    "SceneSource",
    "StudentTransform",
    "Task",
]
