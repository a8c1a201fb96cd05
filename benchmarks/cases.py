"""The cases that are measured: the rows of Table 13 (ExpandNets paper) and SmallNet 3x3.

Images and batches are small enough for two cores, so speeds are not the paper's; its ratios, on a
GPU and unfolded, are shown beside ours. A SmallNet's images are always 32 x 32.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdx.recipe import load_student
from kdx_lab.complexity.table13 import TABLE, PaperRow

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """A network, the name of its preset in `expand.PRESETS`, and one batch.

    `pixels` and `batch_size` are the size and number of images; `paper` is Table 13's ratio of
    training speeds to the compact network, None if it has no such row.
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


def _build(student: Mapping[str, Any]) -> nn.Module:
    return load_student(student).component.build()


def _cases(row: PaperRow) -> dict[str, Case]:
    """Return the expansions of a network of Table 13, by strategy."""
    batch_size, pixels, _ = row.trial
    build = partial(_build, row.student)
    return {
        each.name.removeprefix("ExpandNet-"): Case(
            build, each.preset, pixels, batch_size, each.speed / row.speed
        )
        for each in row.expansions
    }


SEVEN, *OTHERS = TABLE
THREE = partial(_build, {"use": "smallnet", "kernel_size": 3})
CASES: Mapping[str, Case] = {
    **{
        f"SmallNet-7 {name} {size}": replace(case, batch_size=size)
        for size in (128, 512)
        for name, case in _cases(SEVEN).items()
    },
    "SmallNet-3 CL": Case(THREE, "cl", 32, 128),
    "SmallNet-3 CL+FC": Case(THREE, "cl_fc", 32, 128),
    **{f"{row.name} {name}": case for row in OTHERS for name, case in _cases(row).items()},
}
