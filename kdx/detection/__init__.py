"""Boxes on a grid in the fashion of YOLOv2: pure functions, which import nothing else of kdx."""

from kdx.detection.anchors import cluster, mean_best_iou
from kdx.detection.assignment import Assignment, assign
from kdx.detection.detections import Detections, detect
from kdx.detection.grid import Parts, anchor_table, coordinates, decode, shape_iou, split

__all__ = [
    "Assignment",
    "Detections",
    "Parts",
    "anchor_table",
    "assign",
    "cluster",
    "coordinates",
    "decode",
    "detect",
    "mean_best_iou",
    "shape_iou",
    "split",
]
