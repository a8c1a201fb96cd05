"""Exports: the compact student in the formats of other runtimes, checked in these."""

FORMATS = {
    "onnx": "kdx.exporting.onnx",
    "torch-export": "kdx.exporting.torch_export",
    "executorch": "kdx.exporting.executorch",
    "openvino": "kdx.exporting.openvino",
    "litert": "kdx.exporting.litert",
    "timm": "kdx.exporting.timm",
}
"""The module of each format."""
