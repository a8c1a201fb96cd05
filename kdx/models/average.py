"""The moving average of a compact network."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kdx.recipe.optimizing import AVERAGES, Average
from kdx.util.copies import copied

Decay = Annotated[float, Field(gt=0, lt=1)]


def ema(student_network: nn.Module, decay: Decay = 0.999) -> AveragedModel:
    """As a teacher: the moving average of the student itself (Tarvainen & Valpola 2017).

    Of the compact weights and of BatchNorm's statistics, after each step: the average moves by
    1 - `decay`, by more in the first steps, 1 - (1 + n) / (10 + n) in step n. The average starts
    as a copy of the student as it is at its first update.
    """

    def move(average: Tensor, now: Tensor, steps: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return now
        kept = torch.as_tensor((1 + steps) / (10 + steps)).clamp(max=decay)
        return torch.lerp(now, average, kept.to(average))

    return _averaged(student_network, move)


def average_of(network: nn.Module, section: Average) -> AveragedModel:
    """Return the average of a compact network that a recipe asks for, empty."""
    if section.use == "ema":
        return ema(network, section.decay or AVERAGES["ema"][1]["decay"])
    return _averaged(network, _equally)


def _averaged(network: nn.Module, move: Callable[..., Tensor]) -> AveragedModel:
    """Return an average that starts as a copy of a network, made as `copied` does."""
    average = AveragedModel(nn.Identity(), avg_fn=move, use_buffers=True)
    average.module = copied(network)
    return average


def _equally(average: Tensor, now: Tensor, epochs: Tensor | int) -> Tensor:
    if not average.is_floating_point():
        return now
    return average + (now - average) / (torch.as_tensor(epochs).to(average) + 1)
