"""The contracts between kdx and what plugs into it. Imports nothing else of kdx."""

from kdx.protocols.data import DatasetFactory, ImageData
from kdx.protocols.images import ImageSource, InputSpec, SceneSource
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
    "DatasetFactory",
    "Holding",
    "ImageData",
    "ImageSource",
    "InputSpec",
    "Loss",
    "Meter",
    "NetworkFactory",
    "Outputs",
    "Planned",
    "SceneSource",
    "StudentTransform",
    "Task",
]
