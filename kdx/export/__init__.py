"""Exports: the compact student in the formats of other runtimes, checked in these.

`kdx.export(run, to="onnx")` is `kdx.export.export`: the package can be called.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it imports torch
    from kdx.export.exporting import Exported

FORMATS = {
    "onnx": "kdx.export.onnx",
    "torch-export": "kdx.export.torch_export",
    "executorch": "kdx.export.executorch",
    "openvino": "kdx.export.openvino",
    "litert": "kdx.export.litert",
    "timm": "kdx.export.timm",
}
"""The module of each format."""


def export(*args: Any, **arguments: Any) -> "Exported":
    """Export a student: see `kdx.export.exporting.export`."""
    from kdx.export.exporting import export

    return export(*args, **arguments)


class _Callable(ModuleType):
    """A package that can be called: `import kdx.export.onnx` puts it where the function was."""

    def __call__(self, *args: Any, **arguments: Any) -> "Exported":
        return export(*args, **arguments)


sys.modules[__name__].__class__ = _Callable
