"""Networks that are simple or unfit."""

import warnings
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ChannelsLast", "Otherwise", "Pair", "dropping", "keeping", "lazy", "plain", "pointwise",
    "published", "secretive", "tied",
]  # fmt: skip


class Pair(nn.Module):
    """Answers with two tensors, as networks with an auxiliary head do."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


def plain(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Return a network without BatchNorm: [B, in_channels, H, W] to logits [B, num_classes]."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


def pointwise(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Return `plain` behind a convolution of kernel 1."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 2, 1), *plain(num_classes=num_classes, in_channels=2)
    )


def tied(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Return `plain` behind two convolutions with one weight."""
    first, second = (nn.Conv2d(in_channels, in_channels, 3, padding=1) for _ in range(2))
    second.weight = first.weight
    rest = plain(num_classes=num_classes, in_channels=in_channels)
    return nn.Sequential(first, nn.ReLU(), second, *rest)


def lazy(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Return `plain` with a last layer whose inputs are not known yet."""
    *body, _ = plain(num_classes=num_classes, in_channels=in_channels)
    return nn.Sequential(*body, nn.LazyLinear(num_classes))


def secretive(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Return `plain` behind random numbers that its state dict does not hold."""
    network = plain(num_classes=num_classes, in_channels=in_channels)
    network[2].register_buffer("noise", torch.rand(4, 1, 1), persistent=False)
    network[2].register_forward_hook(lambda module, _, output: output * module.noise)
    return network


def keeping(
    *, num_classes: int, in_channels: int, norm: Literal["weight", "spectral", "none"]
) -> nn.Sequential:
    """Return `plain` with an old-style norm, or that keeps the tensors of its last forward."""
    network = plain(num_classes=num_classes, in_channels=in_channels)
    if norm == "none":
        network[2].register_forward_hook(lambda module, _, y: vars(module).update(last=[y]))
    else:
        with warnings.catch_warnings(action="ignore"):
            getattr(nn.utils, f"{norm}_norm")(network[0])
    return network


def published(*, num_classes: int, pretrained: bool = False) -> nn.Sequential:
    """Return `plain` for grey images, as a network with published weights stands in a recipe."""
    return plain(num_classes=num_classes, in_channels=1)


def dropping(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """Return `plain` with BatchNorm, and dropout before its classifier."""
    network = plain(num_classes=num_classes, in_channels=in_channels)
    return network.insert(4, nn.Dropout(0.5)).insert(1, nn.BatchNorm2d(4))


class Otherwise(nn.Module):
    """`plain` that answers otherwise in train mode, as the networks of several libraries do.

    "aux": a named tuple with auxiliary logits; "dict" and "list" of outputs; "wide": one class
    more; "targets": needs them; "key": a KeyError of its own; "": the same.
    """

    def __init__(self, *, num_classes: int, in_channels: int, kind: str = "aux") -> None:
        super().__init__()
        self.network = plain(num_classes=num_classes, in_channels=in_channels)
        self.kind = kind

    def forward(self, images: Tensor) -> object:
        logits = self.network(images)
        if not self.training or not self.kind:
            return logits
        assert self.kind != "targets", "targets should not be none when in training mode"
        answers = {
            "aux": Auxiliary(logits, logits),
            "dict": {"out": logits, "aux": logits},
            "list": [logits],
            "wide": F.pad(logits, (0, 1)),
        }
        return answers[self.kind]


class ChannelsLast(nn.Module):
    """A network whose `map` is [B, H, W, 6], and `pairs` [B, 6, N, N]; `relu` runs twice."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(in_channels, 6, 4, stride=4), nn.Linear(6, num_classes)
        self.map, self.pairs, self.relu = nn.Linear(6, 6), nn.Identity(), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        value = self.map(self.relu(self.conv(images)).permute(0, 2, 3, 1))
        tokens = value.flatten(1, 2)
        self.pairs(torch.einsum("bnc,bmc->bcnm", tokens, tokens))
        return self.fc(self.relu(value).mean((1, 2)))


class Auxiliary(NamedTuple):
    logits: Tensor
    aux_logits: Tensor
