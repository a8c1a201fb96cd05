"""Transforms without a recipe: objects that are applied in turn, and restored."""

from copy import deepcopy
from threading import Lock

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import remove_parametrizations

import expand
from kdx.models.certificate import certify
from kdx.models.students import smallnet
from kdx.models.transforms import apply, disturbed, enter, restore
from kdx.util.copies import copied

SHAPE = (8, 3, 32, 32)


def test_a_student_is_expanded_restored_and_certified_without_a_recipe():
    torch.manual_seed(0)
    compact = smallnet()
    before = {name: value.clone() for name, value in compact.state_dict().items()}
    transforms = [expand.ExpandNet(conv="cl", linear=False), expand.ExpandNet(linear=True)]
    student, applied = apply(compact, transforms, SHAPE)
    assert applied == transforms
    assert {path for path, _ in expand.units(student)} == {"conv1", "conv2", "conv3", "fc1"}
    assert all(torch.equal(before[name], value) for name, value in compact.state_dict().items())
    restored = restore(student, applied)
    assert list(restored.state_dict()) == list(before)
    certificate = certify(student, lambda network: restore(network, applied), [torch.randn(SHAPE)])
    assert certificate.problems == []
    assert (certificate.float32.tolerance, certificate.float64.tolerance) == (1e-4, 1e-9)


def test_a_transform_that_cannot_be_applied_is_named():
    with pytest.raises(ValueError, match=r"^ExpandNet: .* no "):
        apply(nn.Identity(), [expand.ExpandNet(conv="cl")], SHAPE)


def test_a_student_that_cannot_be_copied_is_named_by_its_module():
    network = smallnet()
    network.conv2.lock = Lock()
    with pytest.raises(ValueError, match=r"SmallNet cannot be copied: conv2 \(Conv2d\): .*lock"):
        apply(network, [expand.ExpandNet(conv="cl")], SHAPE)


class Normalised:
    """Weight norm by torch's parametrizations; its restore copies as anybody would."""

    def apply(self, student):
        student = deepcopy(student)
        weight_norm(student.conv1)
        return student

    def enter(self, student, phase):
        raise AssertionError("only applied and restored here")

    def restore(self, student):
        student = deepcopy(student)
        remove_parametrizations(student.conv1, "weight")
        own = student.conv1._parameters
        own["bias"] = own.pop("bias")
        return student


def test_restoring_leaves_the_parametrisations_of_the_student_alone():
    """torch's removal takes the weight from the class that a deepcopy shares with its original."""
    torch.manual_seed(0)
    student, applied = apply(smallnet(), [Normalised()], SHAPE)
    images = torch.randn(SHAPE)
    certificate = certify(student, lambda network: restore(network, applied), [images])
    assert certificate.problems == []
    assert torch.equal(copied(student.eval())(images), student(images))
    assert type(restore(student, applied).conv1) is nn.Conv2d
    assert student.conv1.weight.requires_grad


class Broken(Normalised):
    phases = ("linear",)

    def enter(self, student, phase):
        raise ValueError("no memory for conv1" if phase == "linear" else f"phase: {phase!r}")


def test_an_error_in_a_known_phase_is_no_unknown_phase():
    network, others = smallnet(), [expand.ExpandNet(conv="cl")]
    (student, _) = apply(network, others, SHAPE)
    enter(student, [Broken(), *others], "nonlinear")
    with pytest.raises(ValueError, match="no memory for conv1"):
        enter(student, [Broken(), *others], "linear")


def test_the_rehearsal_disturbs_what_training_changes_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2))
    network[0].bias.requires_grad_(False)
    network[2].register_buffer("mask", torch.tensor([1.0, 0.0]))
    network[2].phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    network[2].weight = nn.Parameter(torch.zeros(()).expand(2, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    after = disturbed(network).state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"0.weight", "1.weight", "1.bias", "1.running_var", "2.weight", "2.bias"}
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert 0.08 < (after["0.weight"] - before["0.weight"]).norm() / before["0.weight"].norm() < 0.12
