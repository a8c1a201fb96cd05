"""What is expanded, and how: the rows of Table 13 (ExpandNets paper) and SmallNet 3x3.

Images and batches are small enough for two cores, so speeds are not the paper's; its ratios, of
a GPU and an unfolded chain, stand beside ours. A SmallNet's images are always 32 x 32.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdx import students

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """A network, the name of its plan in `expand.PRESETS`, and one batch.

    `pixels` and `batch_size` say how many images of which side; `paper` is Table 13's training
    speed over the compact network's, None where it has no such row.
    """

    build: Callable[[], nn.Module]
    preset: str
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
    return students.smallnet(kernel_size=7)


def _three() -> nn.Module:
    return students.smallnet(kernel_size=3)


SEVEN = {
    "CL": ("cl", 64651.81 / 147822.51),
    "CL+FC": ("cl_fc", 61379.95 / 147822.51),
    "CK": ("ck", 75065.09 / 147822.51),
    "CK+FC": ("ck_fc", 68679.89 / 147822.51),
}
CASES: Mapping[str, Case] = {
    **{
        f"SmallNet-7 {name} {size}": Case(_seven, preset, 32, size, paper)
        for size in (128, 512)
        for name, (preset, paper) in SEVEN.items()
    },
    "SmallNet-3 CL": Case(_three, "cl", 32, 128),
    "SmallNet-3 CL+FC": Case(_three, "cl_fc", 32, 128),
    "MobileNet CL": Case(students.mobilenet, "mobilenet_cl", 64, 128, 729.78 / 3797.21),
    "MobileNetV2 CL": Case(students.mobilenet_v2, "mobilenet_v2_cl", 64, 128, 1009.25 / 3417.20),
    "ShuffleNetV2 0.5x CL": Case(
        students.shufflenet_v2, "shufflenet_v2_cl", 64, 128, 4228.10 / 5404.06
    ),
    "U-Net CL": Case(students.unet, "unet_cl", 256, 8, 2.98 / 8.25),
    "YOLO-LITE CL": Case(students.yolo_lite, "yolo_lite_cl", 224, 16, 6.07 / 7.94),
}
