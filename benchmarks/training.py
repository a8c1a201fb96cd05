"""A bare training step: forward, cross-entropy, backward, SGD with momentum."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx_lab.complexity.rounds import Step

__all__ = ["sgd", "trainer", "training_step"]

RATE = 1e-4  # small: if a batch is memorised, its denormal gradients are slow


def sgd(model: nn.Module, *, fused: bool = False) -> torch.optim.Optimizer:
    """Return SGD with momentum 0.9 over the model's parameters."""
    return torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, fused=fused or None)


def trainer(
    model: nn.Module,
    *,
    device: torch.device,
    bf16: bool = False,
    fused: bool = False,
    wrap: Callable[[nn.Module], nn.Module] = nn.Module.train,
) -> Callable[[Tensor, Tensor], None]:
    """Return a function that trains on a batch of images and labels.

    `wrap` gets the model on its device and returns the module to run, e.g. DDP.
    """
    wrapped = wrap(model.to(device)).train()
    optimizer = sgd(model, fused=fused)

    def train(images: Tensor, labels: Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = wrapped(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


def training_step(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    *,
    device: torch.device,
    channels_last: bool = False,
    **options: Any,
) -> Step:
    """Return a step on one batch that stays in memory; `options` are those of `trainer`.

    Outputs of convolutions are channels last if their inputs are, whatever the weights are.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images, labels = batch[0].to(device, memory_format=layout), batch[1].to(device)
    train = trainer(model, device=device, **options)
    return lambda: train(images, labels)
