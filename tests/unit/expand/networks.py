"""Networks that the tests of `expand` share, and a way to run them for real before comparing."""

import torch
from torch import nn


class SmallNet(nn.Module):
    """The paper's CIFAR-10 network, written out here so that `expand` is tested without kdx."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        padding = 3 if kernel_size == 7 else 0
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 8), (8, 16), (16, 32)):
            layers += [nn.Conv2d(inputs, outputs, kernel_size, padding=padding)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.fc1 = nn.Linear(512 if kernel_size == 7 else 128, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(self.features(images).flatten(1)).relu())


def warm_up(model: nn.Module, *shape: int, steps: int = 5) -> nn.Module:
    """Run `model` in train mode, so that BatchNorm's statistics are not those of its birth."""
    dtype = next(model.parameters()).dtype
    model.train()
    with torch.no_grad():
        for _ in range(steps):
            model(torch.randn(*shape, dtype=dtype))
    return model.eval()


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    """The largest difference, as a share of the reference's largest value."""
    return ((value - reference).abs().max() / reference.abs().max()).item()


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
