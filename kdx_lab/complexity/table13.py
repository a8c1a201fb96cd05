"""Table 13 of the ExpandNets paper, as printed, with the `student:` section of each network.

What the paper does not state was found by building the networks and counting. `functional`: modules
of ours that the paper's network calls as functions, which its counter does not see.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

__all__ = ["NETWORKS", "TABLE", "Expansion", "Known", "PaperRow", "expansion"]


@dataclass(frozen=True)
class Known:
    """A network of the paper: its images [C, H, W], the batch it trains on, its expansion.

    The batch is the paper's, except of YOLO-LITE and U-Net, for which it states none.
    """

    image: tuple[int, int, int]
    batch: int
    preset: str
    functional: tuple[type[nn.Module], ...] = ()


@dataclass(frozen=True)
class Expansion:
    """An ExpandNet in training: printed figures, and its speed in images per second."""

    name: str
    preset: str
    parameters: str
    flops: str
    speed: float


@dataclass(frozen=True)
class PaperRow:
    """A compact network and its expansions. `student` is the section of a recipe.

    `speed` is the column Train. `trial` is a batch (B, H, W) that is small enough for a CPU.
    """

    name: str
    student: Mapping[str, Any]
    parameters: str
    flops: str
    speed: float
    trial: tuple[int, int, int]
    expansions: tuple[Expansion, ...] = field(repr=False)


NETWORKS: Mapping[str, Known] = {
    "smallnet": Known((3, 32, 32), 128, "cl_fc", (nn.ReLU, nn.MaxPool2d)),
    "smallnet4": Known((3, 32, 32), 128, "cl_fc", (nn.ReLU, nn.MaxPool2d)),
    "mobilenet": Known((3, 224, 224), 256, "mobilenet_cl"),
    "mobilenet_v2": Known((3, 224, 224), 256, "mobilenet_v2_cl"),
    "shufflenet_v2": Known((3, 224, 224), 1024, "shufflenet_v2_cl"),
    "alexnet": Known((3, 224, 224), 256, "ck"),
    "yolo_lite": Known((3, 608, 608), 64, "yolo_lite_cl"),
    "unet": Known((3, 1024, 2048), 4, "unet_cl", (nn.ReLU,)),
}

CL = "ExpandNet-CL"
TABLE: tuple[PaperRow, ...] = (
    PaperRow(
        "SmallNet (7x7)",
        {"use": "smallnet", "kernel_size": 7},
        *("0.07", "4.49M", 147822.51),
        trial=(128, 32, 32),
        expansions=(
            Expansion(CL, "cl", "0.55", "57.49M", 64651.81),
            Expansion("ExpandNet-CL+FC", "cl_fc", "2.11", "59.04M", 61379.95),
            Expansion("ExpandNet-CK", "ck", "0.19", "23.95M", 75065.09),
            Expansion("ExpandNet-CK+FC", "ck_fc", "1.75", "25.5M", 68679.89),
        ),
    ),
    PaperRow(
        "MobileNet",
        {"use": "mobilenet"},
        *("4.23", "0.58G", 3797.21),
        trial=(128, 64, 64),
        expansions=(Expansion(CL, "mobilenet_cl", "4.96", "1.76G", 729.78),),
    ),
    PaperRow(
        "MobileNetV2",
        {"use": "mobilenet_v2"},
        *("3.50", "0.32G", 3417.20),
        trial=(128, 64, 64),
        expansions=(Expansion(CL, "mobilenet_v2_cl", "3.67", "1.34G", 1009.25),),
    ),
    PaperRow(
        "ShuffleNetV2 0.5x",
        {"use": "shufflenet_v2"},
        *("1.37", "0.04G", 5404.06),
        trial=(128, 64, 64),
        expansions=(Expansion(CL, "shufflenet_v2_cl", "1.41", "0.6G", 4228.10),),
    ),
    PaperRow(
        "YOLO-LITE",
        {"use": "yolo_lite"},
        *("0.57", "1.81G", 7.94),
        trial=(16, 224, 224),
        expansions=(Expansion(CL, "yolo_lite_cl", "4.48", "28.59G", 6.07),),
    ),
    PaperRow(
        "U-Net",
        {"use": "unet"},
        *("7.76", "389.26G", 8.25),
        trial=(8, 256, 256),
        expansions=(Expansion(CL, "unet_cl", "82.97", "2586.02G", 2.98),),
    ),
)


def expansion(preset: str) -> dict[str, Any]:
    """Return the entry of a recipe's `student.transforms` for one of the paper's presets."""
    return {"use": "expand.ExpandNet", "preset": preset}
