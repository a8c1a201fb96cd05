import pytest
import torch
import torch.nn.functional as F
from torch import nn

import expand
from kdx.models.features import FeatureWanted, Tapped
from kdx.models.students import smallnet
from tests.unit.expand.networks import relative_error, warm_up

IMAGES = (4, 3, 32, 32)


def tapped(module, *paths):
    network = Tapped(module, role="student")
    for path in paths:
        network.tap(path)
    return network


def test_a_feature_is_the_output_of_the_module_at_its_path():
    torch.manual_seed(0)
    student, images = smallnet().eval(), torch.randn(IMAGES)
    outputs = tapped(student, "conv1", "relu_fc1")(images)
    assert set(outputs.features) == {"conv1", "relu_fc1"}
    assert len(outputs.features) == 2
    assert torch.equal(outputs.logits, student(images))
    assert torch.equal(outputs.features["conv1"], student.conv1(images))
    assert torch.equal(student.fc2(outputs.features["relu_fc1"]), outputs.logits)


def test_reading_another_feature_asks_for_it():
    network = tapped(smallnet(), "conv1")
    features = network(torch.zeros(IMAGES)).features
    with pytest.raises(
        FeatureWanted, match=r"^the student's 'fc1' is not tapped: call tap\('fc1'\) first$"
    ) as wanted:
        features["fc1"]
    assert (wanted.value.network, wanted.value.path) == (network, "fc1")


def test_unknown_paths_are_refused_with_the_nearest():
    network = tapped(smallnet())
    with pytest.raises(
        ValueError, match=r"the student has no module 'fc3'\. Did you mean 'fc"
    ) as e:
        network.tap("fc3")
    assert "Known: conv1, bn1, relu1, pool1, " in str(e.value)
    assert str(e.value).endswith(", and 6 more")
    with pytest.raises(ValueError, match=r"has no module 'stem'\. Known: conv1"):
        network.tap("stem")
    with pytest.raises(ValueError, match=r"has no module ''"):
        network.tap("")
    assert network.paths == ()


def test_modules_that_return_no_tensor_are_refused():
    network = tapped(nn.Sequential(nn.LSTM(3, 2)), "0")
    with pytest.raises(ValueError, match=r"student's module '0' returns a tuple, not a tensor"):
        network(torch.zeros(1, 3))


def test_taps_come_off_and_on_again():
    student, images = smallnet(), torch.zeros(IMAGES)
    network = tapped(student, "fc1")
    network.tap("fc1")  # once more changes nothing
    assert len(student.fc1._forward_hooks) == 1
    network.detach()
    assert not student.fc1._forward_hooks
    assert not network(images).features
    network.attach()
    assert network(images).features["fc1"].shape == (4, 64)


@pytest.mark.parametrize("reached", ["relu", "add"])
def test_a_feature_is_kept_from_an_in_place_operation_behind_it(reached):
    class AddsOne(nn.Module):
        def forward(self, value):
            return value.add_(1)

    torch.manual_seed(0)
    behind = nn.ReLU(inplace=True) if reached == "relu" else AddsOne()
    student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), behind, nn.Flatten())
    images = torch.randn(4, 3, 8, 8)
    expected = student[1](student[0](images))
    network = tapped(student, "0", "1")
    assert not torch.equal(network(images).features["1"], expected)  # the trap
    network.clone_overwritten(images)
    features = network(images).features
    torch.testing.assert_close(features["1"], expected)
    features["1"].sum().backward()
    assert student[1].bias.grad.tolist() == [4 * 36.0] * 4


@pytest.mark.parametrize(("path", "conv"), [("conv2", "cl"), ("fc1", None)])
def test_a_path_means_the_same_tensor_before_during_and_after_a_transform(path, conv):
    torch.manual_seed(0)
    compact, images = smallnet().double(), torch.randn(IMAGES, dtype=torch.float64)
    before = tapped(compact, path)(images).features[path]
    student = warm_up(expand.expand(compact, conv, linear=True), *IMAGES)
    network = tapped(student, path)
    folded = network(images).features[path]
    expand.set_mode(student, "unfolded")
    unfolded = network(images).features[path]
    network.detach()
    after = tapped(expand.compress(student), path)(images).features[path]
    assert before.shape == folded.shape
    assert relative_error(unfolded, folded) < 1e-12
    assert relative_error(after, folded) < 1e-12


def test_the_feature_of_an_expanded_layer_is_the_whole_layers_output():
    torch.manual_seed(0)
    student, images = smallnet().double(), torch.randn(IMAGES, dtype=torch.float64)
    student = expand.expand(student, "cl", stem="expand")
    unit = student.conv1
    expected = F.conv2d(images, unit.weight, unit.bias)
    for mode in ("folded", "unfolded"):
        expand.set_mode(student, mode)
        assert relative_error(tapped(student, "conv1")(images).features["conv1"], expected) < 1e-12


class Twice(nn.Module):
    """Uses one ReLU after each of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(3, 4), nn.Linear(4, 5), nn.ReLU(inplace=True)

    def forward(self, value):
        return self.relu(self.second(self.relu(self.first(value.mean((2, 3))))))


def test_a_module_that_runs_several_times_needs_the_number_of_a_call():
    torch.manual_seed(0)
    module, images = Twice(), torch.randn(IMAGES)
    hidden = module.relu(module.first(images.mean((2, 3))))
    network = tapped(module, "relu:0", "relu:1")
    features = network(images).features
    assert torch.equal(features["relu:0"], hidden)
    assert torch.equal(features["relu:1"], module(images))
    for path in ("relu", "relu:2"):
        with pytest.raises(
            ValueError,
            match=rf"^'{path}': the student's module 'relu' runs 2 times in a forward pass: name "
            r"one of its calls: 'relu:0', 'relu:1'$",
        ):
            tapped(module, path)(images)


def test_a_call_that_a_later_call_overwrites_in_place_is_kept():
    module, images = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)), torch.randn(IMAGES)
    module.append(module[0])
    network = tapped(module, "0:0", "0:1")
    network.clone_overwritten(images.clone())
    features = network(images.clone()).features
    assert torch.equal(features["0:0"], images)
    assert torch.equal(features["0:1"], images.relu())


def test_a_module_whose_name_has_a_colon_is_known_by_it():
    module = nn.ModuleDict({"a:0": nn.Flatten()})
    module.forward = lambda images: module["a:0"](images)
    assert tapped(module, "a:0")(torch.zeros(IMAGES)).features["a:0"].shape == (4, 3072)
