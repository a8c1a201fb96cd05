"""Images for detection and segmentation, made of Fashion-MNIST's items: no download, any size.

A scene is a pure function of (seed, split, number). `kdx scenes` writes them.
"""

from kdx_lab.scenes.compose import Scene, compose
from kdx_lab.scenes.items import Items, load_items
from kdx_lab.scenes.plan import ScenePlan
from kdx_lab.scenes.visible import Found
from kdx_lab.scenes.write import write_scenes

__all__ = ["Found", "Items", "Scene", "ScenePlan", "compose", "load_items", "write_scenes"]
