"""Expanded networks under DistributedDataParallel: two real processes against one."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import expand
from tests.unit.expand.networks import parameters, relative_error

WORLD = 2


def network() -> nn.Module:
    """Convolutions of both strategies, one of them used twice, and a classifier."""
    torch.manual_seed(0)
    twice = nn.Conv2d(8, 8, 3, padding=1, groups=2)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), twice, nn.ReLU(), twice,
        nn.Flatten(), nn.Linear(8 * 64, 5),
    )  # fmt: skip
    return expand.expand(model, "auto", linear=True, classifier="expand", rate=2)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(8, 1, 8, 8), torch.randint(5, (8,))


class OnLeaves(nn.Module):
    """A network with its leaves, as its docstring says that DDP takes them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.leaves = network, expand.Leaves(network)
        replaced = self.leaves.replaced
        self._ddp_params_and_buffers_to_ignore = [f"network.{name}" for name in replaced]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)


def train(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    held: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        with held():
            F.cross_entropy(model(images), labels).backward()
        optimizer.step()


def work(rank: int, folder: str) -> None:
    """One process: its half of the batch, warnings (of gradient strides, say) as errors."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", WORLD)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
    images, labels = (part.chunk(WORLD)[rank] for part in batch())
    model = DistributedDataParallel(network())
    train(model, images, labels)
    torch.save(model.module.state_dict(), f"{folder}/{rank}.pth")
    on_leaves = OnLeaves(network())
    model, sent = DistributedDataParallel(on_leaves), []
    model.register_comm_hook(sent, counted)
    train(model, images, labels, on_leaves.leaves.held)
    assert sum(sent) == 3 * parameters(expand.compress(on_leaves.network))
    torch.save(on_leaves.network.state_dict(), f"{folder}/{rank}_leaves.pth")
    dist.destroy_process_group()


def counted(sent: list[int], bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Sum the gradients over the processes, as DDP does, and count them."""
    sent.append(bucket.buffer().numel())
    return allreduce_hook(dist.group.WORLD, bucket)


def test_two_processes_follow_one(tmp_path: Path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), WORLD)
    alone = network()
    train(alone, *batch())
    for rank in range(WORLD):
        for kind in ("", "_leaves"):
            state = torch.load(tmp_path / f"{rank}{kind}.pth", weights_only=True)
            for name, value in alone.state_dict().items():
                assert relative_error(state[name], value) < 1e-5, name
