"""The U-Net of the ExpandNets paper, section 3.3. H, W: image size; C: classes."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["UNet", "unet"]


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015): images [B, in_channels, H, W] to logits [B, C, H, W].

    `contracting`: a block of two 3 x 3 convolutions for each of `widths`, 2 x 2 max-pool between
    them. `expanding`: for each width but the last, backwards, a transposed 2 x 2 convolution
    (`up`), the contracting block's output beside its own, and two 3 x 3 convolutions. `output`: a
    1 x 1 convolution. Every 3 x 3 convolution is followed by a ReLU; with `norm` by BatchNorm
    before it, and then it has no biases.

    ValueError for fewer than two widths, widths below 1, and images whose height or width
    2 ** (len(widths) - 1) does not divide.
    """

    def __init__(
        self, *, num_classes: int, in_channels: int, widths: Sequence[int], norm: bool
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths: {list(widths)} should be two or more, each 1 or above")
        self.stride = 2 ** (len(widths) - 1)
        narrowing = list(pairwise(reversed(widths)))  # (512, 256), ...
        self.contracting = nn.ModuleList(
            _block(inputs, width, norm) for inputs, width in pairwise((in_channels, *widths))
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(wide, width, 2, 2) for wide, width in narrowing)
        self.expanding = nn.ModuleList(_block(wide, width, norm) for wide, width in narrowing)
        self.output = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C, H, W] of images [B, in_channels, H, W]."""
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            need = f"halves them {len(self.up)} times, so {self.stride} must divide both"
            raise ValueError(f"images of {height} x {width}: this U-Net {need}")
        kept = [self.contracting[0](images)]
        for block in self.contracting[1:]:
            kept.append(block(self.pool(kept[-1])))
        value = kept.pop()
        for up, block in zip(self.up, self.expanding, strict=True):
            value = block(torch.cat([kept.pop(), up(value)], dim=1))
        return self.output(value)


def unet(
    *,
    num_classes: int = 34,
    in_channels: int = 3,
    widths: Sequence[int] = (32, 64, 128, 256, 512),
    norm: bool = False,
) -> UNet:
    """Return a `UNet`; by default the paper's for Cityscapes, of 7,761,186 parameters."""
    return UNet(num_classes=num_classes, in_channels=in_channels, widths=widths, norm=norm)


def _block(inputs: int, width: int, norm: bool) -> nn.Sequential:
    block = nn.Sequential()
    for channels in (inputs, width):
        block.append(nn.Conv2d(channels, width, 3, padding=1, bias=not norm))
        if norm:
            block.append(nn.BatchNorm2d(width))
        block.append(nn.ReLU())
    return block
