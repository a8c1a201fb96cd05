import torch
from torch import nn

from benchmarks.memory import peak_memory

CPU = torch.device("cpu")


def test_the_peak_of_a_step_worked_by_hand():
    def build():
        torch.zeros(9000)  # gone before the step
        kept = torch.zeros(1000)

        def step():
            first = kept.clone()
            second = first.clone()  # the peak: three of 4,000 bytes
            del first
            third = torch.empty(500)
            return second.numel() + third.numel()

        return step

    assert peak_memory(build, CPU) == 12_000


def test_gradients_momentum_and_what_autograd_keeps_count():
    def build():
        weight = nn.Parameter(torch.zeros(1000))
        optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)

        def step():
            weight.exp().exp().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    # At the first multiplication of the backward pass live: weight, momentum, two exponentials
    # that autograd kept, and the product; later ones free as much as they make.
    assert 20_000 <= peak_memory(build, CPU) <= 20_000 + 64
