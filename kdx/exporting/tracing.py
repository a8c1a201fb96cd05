"""A network as a graph, by torch.export: what every format but timm's is made of."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdx.protocols import InputSpec
from kdx.util.errors import reason


class FromPixels(nn.Module):
    """A network that takes pixels, uint8 [B, C, H, W]: (pixels / 255 - mean) / std comes first."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, input: InputSpec) -> None:
        super().__init__()
        self.network = network
        for name in ("mean", "std"):
            values = torch.tensor(getattr(input, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the network's outputs."""
        return self.network((pixels.float() / 255 - self.mean) / self.std)


def trace(
    network: nn.Module,
    images: Tensor,
    *,
    batch: int | None = None,
    free_size: bool = False,
    most: int | None = None,
) -> ExportedProgram:
    """Return the graph of a network in eval mode, traced on images [B, C, H, W].

    Its batch is free, up to `most` if given, unless `batch` fixes it; with `free_size` height and
    width are free too, as far as the network allows. ValueError for a network that cannot be
    traced.
    """
    sizes = {2: Dim.AUTO, 3: Dim.AUTO} if free_size else {}
    count = batch or most or max(2, len(images))
    example = images.repeat(-(-count // len(images)), 1, 1, 1)[:count]
    free = {0: Dim("batch", min=1, max=most), **sizes}
    try:
        with torch.no_grad():
            return torch.export.export(
                network.eval(), (example,), dynamic_shapes=None if batch else (free,)
            )
    except Exception as error:  # the network may be anybody's
        how = f"with a batch of {batch}" if batch else "with a free batch"
        remedy = "" if batch else "; to fix the batch, pass --batch N"
        first = reason(error).strip().splitlines()[0]
        raise ValueError(f"the network cannot be traced {how}: {first}{remedy}") from error


def other_size(images: Tensor) -> Tensor:
    """Return images [B, C, H, W] that are 32 pixels higher and 64 wider, by repetition."""
    height, width = images.shape[2] + 32, images.shape[3] + 64
    repeats = -(-height // images.shape[2]), -(-width // images.shape[3])
    return images.repeat(1, 1, *repeats)[:, :, :height, :width].contiguous()


@torch.no_grad()
def takes(network: nn.Module, images: Tensor) -> bool:
    """Return whether a network runs on images."""
    try:
        network(images)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError):
        return False
    return True


def shape(images: Tensor, *, batch: int | None, free_size: bool) -> Sequence[int | str]:
    """Return the input's shape with names of what is free: ["batch", 3, "height", "width"]."""
    sizes = ["height", "width"] if free_size else list(images.shape[2:])
    return [batch or "batch", images.shape[1], *sizes]
