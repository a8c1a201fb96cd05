"""Put a network into eval or train mode for a while, and back."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network into eval mode, and back into the mode that it was in."""
    training = network.training
    try:
        yield network.eval()
    finally:
        network.train(training)


@contextmanager
def as_it_was(network: nn.Module) -> Iterator[None]:
    """Run a network in train mode; give its mode and its buffers back."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    training = network.training
    network.train()
    try:
        yield
    finally:
        network.train(training)
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
