"""Parameters and operations of a network, by two rules.

`paper_flops` follow the ExpandNets paper's Table 13, computed with ptflops as of 2020:
- a convolution: its multiply-adds, each counted once, and with a bias an addition per output; for
  a transposed one, height times height instead of height times width additions;
- a fully-connected layer: its multiply-adds, without its bias;
- BatchNorm: 2 for each element of its input, 1 without affine parameters;
- modules of ReLU, ReLU6, LeakyReLU, PReLU, ELU and of pools: 1 for each element of their input;
- nothing for functions (torch.nn.functional).
`macs` are the multiply-adds of torch's own counter, half of its floating-point operations:
convolutions and matrix products only.
"""

import copy
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdx.util.errors import reason

__all__ = ["Counts", "Shape", "convolution_macs", "count", "on_meta", "refusing"]

Shape = Sequence[int]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_COUNTED = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)


@dataclass(frozen=True)
class Counts:
    """A network's parameters, and its operations per image in a forward pass, rounded."""

    parameters: int
    paper_flops: int
    macs: int


def on_meta(network: nn.Module) -> nn.Module:
    """Return a copy on the meta device, which runs without computing anything."""
    return copy.deepcopy(network).to("meta")


def count(
    network: nn.Module, batch: Shape, *, functional: Collection[type[nn.Module]] = ()
) -> Counts:
    """Count the operations of `network` on images [B, C, H, W] in eval mode, per image.

    What is done once per batch, such as folding, is divided by B. Modules of the classes
    `functional` are not counted, as if they were called as functions. ValueError if the network
    does not accept such images.
    """
    trial, more = on_meta(network).eval(), _Additions()
    mapping = {torch.ops.aten.convolution: more.convolution}
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    for module in trial.modules():
        if isinstance(module, (*_NORMS, *_COUNTED)) and not isinstance(module, tuple(functional)):
            module.register_forward_hook(more.module)
    with torch.no_grad(), counter, refusing(batch):
        trial(torch.empty(*batch, device="meta"))
    macs = counter.get_total_flops() // 2
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Counts(parameters, round((macs + more.counted) / batch[0]), round(macs / batch[0]))


@contextmanager
def refusing(batch: Shape) -> Iterator[None]:
    """Turn a network's error on such a batch into a ValueError."""
    try:
        yield
    except Exception as error:  # the network may be anybody's
        shape = " x ".join(map(str, batch))
        raise ValueError(f"the network fails on images of {shape}: {reason(error)}") from error


def convolution_macs(input: Shape, weight: Shape, output: Shape, *, transposed: bool) -> int:
    """Return the multiply-adds of a convolution: the weight, applied at each position of a map.

    input [B, in, *size], output [B, out, *size], weight [out, in / groups, *kernel], or
    [in, out / groups, *kernel] of a transposed one, which is applied at the input's positions.
    """
    batch, _, *positions = input if transposed else output
    return prod(weight) * batch * prod(positions)


class _Additions:
    """Counts the operations other than multiply-adds, by the paper's rules."""

    def __init__(self) -> None:
        self.counted = 0

    def convolution(
        self, input: Shape, weight: Shape, bias: Shape | None, *geometry: Any, out_shape: Shape
    ) -> int:
        """Count the additions of biases; return twice the multiply-adds, as torch's counter has it.

        The arguments are those of aten.convolution, tensors by their shape.
        """
        transposed: bool = geometry[3]  # after stride, padding and dilation
        if bias is not None:
            batch, channels, *size = out_shape
            # ptflops of 2020 took the height of a transposed convolution's output for its width
            self.counted += batch * channels * (size[0] ** len(size) if transposed else prod(size))
        return 2 * convolution_macs(input, weight, out_shape, transposed=transposed)

    def module(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        """Count the input elements of a BatchNorm, an activation or a pool."""
        twice = isinstance(module, _NORMS) and module.affine
        self.counted += inputs[0].numel() * (2 if twice else 1)
