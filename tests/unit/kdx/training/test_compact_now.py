"""The compact network while the student trains: as restored, and restored once."""

import pytest
import torch
from torch import nn

import expand
from kdx.models.students import smallnet
from kdx.models.transforms import apply, restore
from kdx.training import compact_now
from kdx.training.compact_now import CompactNow

FOLDED = [expand.ExpandNet(conv="ck", linear=True), expand.OREPA(), expand.DOConv()]


@pytest.fixture
def restored(monkeypatch):
    """Count the calls of `restore`."""
    calls = []

    def counting(*given):
        calls.append(given)
        return restore(*given)

    monkeypatch.setattr(compact_now, "restore", counting)
    return calls


def disturb(student):
    for tensor in (*student.parameters(), *student.buffers()):
        if tensor.is_floating_point():
            tensor.data.mul_(1 + 0.1 * torch.rand_like(tensor))


@pytest.mark.parametrize("transform", FOLDED, ids=lambda each: type(each).__name__)
def test_it_is_what_restoring_gives_and_restores_once(transform, restored):
    torch.manual_seed(0)
    student, transforms = apply(smallnet(kernel_size=7), [transform], (2, 3, 32, 32))
    now = CompactNow(student, transforms)
    for step in range(3):
        if step:
            disturb(student)
        found, expected = now.network().state_dict(), restore(student, transforms).state_dict()
        resumed = CompactNow(student, transforms).network().state_dict()
        assert all(torch.equal(value, resumed[name]) for name, value in found.items())
        assert list(found) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, msg=name)
    assert len(restored) == 2 + 3 * 2  # once to try and once to keep, here and where it resumes


def test_branches_with_norms_are_restored_each_time(restored):
    student, transforms = apply(smallnet(), [expand.RepVGG()], (2, 3, 32, 32))
    now = CompactNow(student, transforms)
    for _ in range(2):
        disturb(student)
        expected = restore(student, transforms).conv1.weight
        assert torch.equal(now.network().conv1.weight, expected)
    assert len(restored) == 2


def test_a_product_that_is_not_all_is_not_used():
    class Squaring(expand.DOConv):
        """Begins where its product is all: at a gain of one."""

        def restore(self, student):
            network = super().restore(student)
            network.fc2.weight.data.mul_(network.fc2.bias[0] ** 2)
            return network

    student, transforms = apply(smallnet(), [Squaring()], (2, 3, 32, 32))
    student.fc2.bias.data.fill_(1)
    now = CompactNow(student, transforms)
    now.network()
    student.fc2.bias.data.fill_(2)
    assert torch.equal(now.network().fc2.weight, 4 * student.fc2.weight)


def test_without_transforms_it_is_the_student():
    student = nn.Linear(1, 1)
    assert CompactNow(student, []).network() is student
