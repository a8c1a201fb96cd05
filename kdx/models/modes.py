"""Put a network into eval or train mode for a while, and back."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network into eval mode, and each of its modules back into the mode it was in."""
    with _modes_kept(network):
        yield network.eval()


@contextmanager
def as_it_was(network: nn.Module) -> Iterator[None]:
    """Run a network in train mode; give the modes of its modules and its buffers back.

    BatchNorm that it gets meanwhile is left as new.
    """
    modules = set(network.modules())
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with _modes_kept(network):
        network.train()
        try:
            yield
        finally:
            for module in set(network.modules()) - modules:
                if isinstance(module, _BatchNorm):
                    module.reset_running_stats()
            for name, buffer in network.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])


@contextmanager
def _modes_kept(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        network.train(modes[network])
        for module, training in modes.items():
            module.training = training
