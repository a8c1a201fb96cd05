"""Images per second of several networks, forward and in training, measured side by side."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdx.util.words import counted
from kdx_lab.complexity.counting import Shape
from kdx_lab.complexity.rounds import Contender, Rounds, measure
from kdx_lab.complexity.training import backward

__all__ = ["Speeds", "speeds", "where"]


@dataclass(frozen=True)
class Speeds:
    """Images per second by network in each round: forward in eval mode, and training steps.

    A training step is forward and backward, without loss and optimizer.
    """

    forward: Rounds
    training: Rounds

    def plain(self) -> dict[str, Any]:
        """Return the medians by network, for JSON, and the device."""
        return {
            "forward": {name: self.forward.speed(name).median for name in self.forward.speeds},
            "training": {name: self.training.speed(name).median for name in self.training.speeds},
            "on": where(),
        }


def where() -> str:
    """Return the name of the device: the GPU, if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {counted(torch.get_num_threads(), 'thread')}"


def speeds(networks: Mapping[str, nn.Module], batch: Shape, *, rounds: int) -> Speeds:
    """Measure the networks in turns on one batch [B, C, H, W]; ValueError if `rounds` is 0."""
    if rounds < 1:
        raise ValueError(f"--rounds {rounds}: must be 1 or more")
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    layout = torch.contiguous_format if gpu else torch.channels_last
    images = torch.randn(*batch).to(device, memory_format=layout)
    for network in networks.values():
        network.to(device)

    def timed(work: Callable[[nn.Module, Tensor], None]) -> Rounds:
        steps = {name: partial(work, each, images) for name, each in networks.items()}
        contenders = [
            Contender(name, partial(steps.__getitem__, name), len(images)) for name in steps
        ]
        return measure(contenders, rounds=rounds, warmup=1)

    return Speeds(timed(_forward), timed(_train))


@torch.no_grad()
def _forward(network: nn.Module, images: Tensor) -> None:
    network.eval()(images)


def _train(network: nn.Module, images: Tensor) -> None:
    backward(network.train(), images)
