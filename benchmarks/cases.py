"""What is expanded, and how: the rows of Table 13 (ExpandNets paper) and SmallNet 3x3.

Images and batches are small enough for two cores, so speeds are not the paper's; its ratios, of
a GPU and an unfolded chain, stand beside ours. A SmallNet's images are always 32 x 32.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import networks
from kdx.students import smallnet

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """A network, the arguments of `expand.expand` for it, and one batch.

    `pixels` and `batch_size` say how many images of which side; `paper` is Table 13's training
    speed over the compact network's, None where it has no such row.
    """

    build: Callable[[], nn.Module]
    options: Mapping[str, Any]
    pixels: int
    batch_size: int
    paper: float | None = None

    def batch(self, model: nn.Module, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
        """Return random images, and random classes in the shape of the network's outputs."""
        size = batch_size or self.batch_size
        images = torch.randn(size, 3, self.pixels, self.pixels)
        with torch.no_grad():
            outputs = model(images[:2])
        return images, torch.randint(outputs.shape[1], (size, *outputs.shape[2:]))


def _seven() -> nn.Module:
    return smallnet(kernel_size=7)


def _three() -> nn.Module:
    return smallnet(kernel_size=3)


LAST = {"conv": "cl", "stem": "expand", "stride": "last"}
MOBILENET = LAST | {"select": ["conv_stem", "*conv_dw"]}
MOBILENET_V2 = LAST | {
    "select": ["features.0.0", *(f"features.{i}.conv.1.0" for i in (2, 4, 7, 14))]
}
SHUFFLENET = LAST | {
    "select": ["conv1.0", "stage*branch1.0", "stage*branch2.3"],
    "depthwise": "channelwise",
}
UNET = {"conv": "cl", "stem": "expand", "select": "contract.*"}
YOLO = {"conv": "cl", "stem": "expand", "select": ["0", "4", "8", "12", "16"]}
CK_FC = {"conv": "ck", "linear": True}
CL_FC = {"conv": "cl", "linear": True}

SEVEN = {
    "CL": ({"conv": "cl"}, 64651.81 / 147822.51),
    "CL+FC": (CL_FC, 61379.95 / 147822.51),
    "CK": ({"conv": "ck"}, 75065.09 / 147822.51),
    "CK+FC": (CK_FC, 68679.89 / 147822.51),
}
CASES: Mapping[str, Case] = {
    **{
        f"SmallNet-7 {name} {size}": Case(_seven, options, 32, size, paper)
        for size in (128, 512)
        for name, (options, paper) in SEVEN.items()
    },
    "SmallNet-3 CL": Case(_three, {"conv": "cl"}, 32, 128),
    "SmallNet-3 CL+FC": Case(_three, CL_FC, 32, 128),
    "MobileNet CL": Case(networks.mobilenet, MOBILENET, 64, 128, 729.78 / 3797.21),
    "MobileNetV2 CL": Case(networks.mobilenet_v2, MOBILENET_V2, 64, 128, 1009.25 / 3417.20),
    "ShuffleNetV2 0.5x CL": Case(networks.shufflenet_v2, SHUFFLENET, 64, 128, 4228.10 / 5404.06),
    "U-Net CL": Case(networks.UNet, UNET, 256, 8, 2.98 / 8.25),
    "YOLO-LITE CL": Case(networks.yolo_lite, YOLO, 224, 16, 6.07 / 7.94),
}
