"""Boxes on a grid in the fashion of YOLOv2: pure functions, which import nothing else of kdx."""

from kdx.detection.anchors import cluster as cluster
from kdx.detection.anchors import mean_best_iou as mean_best_iou
from kdx.detection.assignment import Assignment as Assignment
from kdx.detection.assignment import assign as assign
from kdx.detection.detections import Detections as Detections
from kdx.detection.detections import detect as detect
from kdx.detection.grid import Parts as Parts
from kdx.detection.grid import anchor_table as anchor_table
from kdx.detection.grid import coordinates as coordinates
from kdx.detection.grid import decode as decode
from kdx.detection.grid import shape_iou as shape_iou
from kdx.detection.grid import split as split
