"""The compact networks of the ExpandNets paper. B: batch, C: channels, S: image size."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["SmallNet", "smallnet", "smallnet4"]

HIDDEN = 64


class SmallNet(nn.Module):
    """Blocks of convolution, BatchNorm, ReLU and 2 x 2 max-pool; then two linear layers.

    ExpandNets, section 3.1.1: blocks of 8, 16 and 32 channels, kernels of 3 without padding or
    of 7 with a padding of 3; biases everywhere. The modules, in order: conv1, bn1, relu1, pool1,
    conv2, ..., flatten, fc1, relu_fc1, fc2.

    Takes images [B, in_channels, S, S] with S = `image_size`; returns logits [B, num_classes].
    ValueError if the image is too small for the blocks.
    """

    def __init__(
        self,
        *,
        kernel_size: int = 3,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        channels: Sequence[int] = (8, 16, 32),
        padding: int | None = None,
    ) -> None:
        super().__init__()
        if padding is None:
            padding = 0 if kernel_size == 3 else kernel_size // 2
        widths = [in_channels, *channels]
        for i, (width, out) in enumerate(pairwise(widths), start=1):
            self.add_module(f"conv{i}", nn.Conv2d(width, out, kernel_size, padding=padding))
            self.add_module(f"bn{i}", nn.BatchNorm2d(out))
            self.add_module(f"relu{i}", nn.ReLU())
            self.add_module(f"pool{i}", nn.MaxPool2d(2))
        left = _size_left(image_size, len(channels), kernel_size - 1 - 2 * padding)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(widths[-1] * left**2, HIDDEN)
        self.relu_fc1 = nn.ReLU()
        self.fc2 = nn.Linear(HIDDEN, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, num_classes] of images [B, C, S, S]."""
        for module in self.children():
            images = module(images)
        return images


def smallnet(
    *, kernel_size: int = 3, num_classes: int = 10, in_channels: int = 3, image_size: int = 32
) -> SmallNet:
    """Return the SmallNet of section 3.1.1, `kernel_size` 3 or 7; ValueError for another."""
    _check_kernel(kernel_size, (3, 7))
    return SmallNet(
        kernel_size=kernel_size,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
    )


def smallnet4(
    *, kernel_size: int = 3, num_classes: int = 10, in_channels: int = 3, image_size: int = 32
) -> SmallNet:
    """Return the four-block network of Appendix A.3, `kernel_size` 3, 5, 7 or 9.

    Blocks of 8, 16, 32 and 64 channels, padding kernel_size // 2. ValueError for another kernel.
    """
    _check_kernel(kernel_size, (3, 5, 7, 9))
    return SmallNet(
        kernel_size=kernel_size,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        channels=(8, 16, 32, 64),
        padding=kernel_size // 2,
    )


def _check_kernel(kernel_size: int, known: tuple[int, ...]) -> None:
    if kernel_size not in known:
        raise ValueError(f"kernel_size: {kernel_size} is not one of {known}")


def _size_left(image_size: int, blocks: int, shrink: int) -> int:
    """Return the size after `blocks` of a convolution that takes `shrink` pixels and a halving."""
    left, smallest = image_size, 1
    for _ in range(blocks):
        left, smallest = (left - shrink) // 2, 2 * smallest + shrink
    if image_size < smallest:
        need = f"{blocks} blocks, which need {smallest}"
        raise ValueError(f"image_size: {image_size} is too small for {need}")
    return left
