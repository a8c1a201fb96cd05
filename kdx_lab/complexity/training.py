"""The cost of a training step, counted on the meta device, without computing it.

A step is forward, in train mode, and backward, without loss and optimizer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet, finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from kdx_lab.complexity.counting import Shape, convolution_macs, on_meta, refusing

__all__ = ["StepCost", "backward", "step_cost"]


@dataclass(frozen=True)
class StepCost:
    """Of one batch: multiply-adds, and the peak memory of tensors, in bytes.

    Parameters, buffers, images, activations and gradients count; workspaces of libraries and the
    optimizer's state do not.
    """

    macs: int
    peak: int


def step_cost(network: nn.Module, batch: Shape) -> StepCost:
    """Count a training step of `network` on images [B, C, H, W]; ValueError if it fails on them."""
    trial = on_meta(network).train()
    images = torch.empty(*batch, device="meta")
    mapping = {torch.ops.aten.convolution_backward: _convolution_backward}
    counter, live = FlopCounterMode(display=False, custom_mapping=mapping), _Live()
    for tensor in (images, *trial.parameters(), *trial.buffers()):
        live.see(tensor)
    with refusing(batch), live, counter:
        backward(trial, images)
    return StepCost(counter.get_total_flops() // 2, live.peak)


def backward(network: nn.Module, images: Tensor) -> None:
    """Run `network` forward, and backward from a gradient of ones; discard the gradients."""
    outputs = network(images)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    torch.autograd.grad(outputs, trained, torch.ones_like(outputs), allow_unused=True)


def _convolution_backward(
    grad: Shape, input: Shape, weight: Shape, biases: Any, *geometry: Any, out_shape: Any
) -> int:
    """Return twice the multiply-adds: a convolution's, for each gradient of input and weight.

    torch's own rule counts the weight's gradient of a grouped convolution as that of a full one.
    """
    transposed, (of_input, of_weight, _) = geometry[3], geometry[-1]
    once = convolution_macs(input, weight, grad, transposed=transposed)
    return 2 * once * (of_input + of_weight)


class _Live(TorchDispatchMode):
    """Tracks the storages that operations allocate, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self._storages: WeakSet[torch.UntypedStorage] = WeakSet()
        self._now = self.peak = 0

    def see(self, tensor: Tensor) -> None:
        """Count the storage of `tensor`, if it is new."""
        storage = tensor.untyped_storage()
        if storage not in self._storages:
            self._storages.add(storage)
            finalize(storage, self._free, storage.nbytes())
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)

    def _free(self, size: int) -> None:
        self._now -= size

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        return result
