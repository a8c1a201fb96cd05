"""What "@stage1" and the like stand for."""

import pytest
import torch
import torchvision
from torch import nn

import expand
from kdx.losses import Hint
from kdx.models.aliases import find_aliases
from kdx.models.features import Tapped
from kdx.models.students import smallnet


def aliases(network, size=32, channels=3):
    paths = [path for path, _ in network.named_modules()]
    return find_aliases(network, torch.randn(2, channels, size, size), paths)


class Squeezed(nn.Module):
    """Two stages of channels-last maps with a squeeze between them, and a shared ReLU."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 6, 2, 2)
        self.squeeze, self.gate = nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1)
        self.relu, self.last, self.head = nn.ReLU(), nn.Identity(), nn.Linear(6, 5)

    def forward(self, images):
        x = self.relu(self.first(images))
        x = x * self.gate(self.squeeze(x)).sigmoid()
        x = self.relu(self.second(x))
        return self.head(self.last(x.permute(0, 2, 3, 1)).mean((1, 2)))


def test_stages_of_a_resnet_also_at_1_x_1():
    stages = {f"@stage{n}": f"layer{n}" for n in range(1, 5)}
    expected = stages | {"@stem": "relu", "@pooled": "avgpool"}
    assert aliases(torchvision.models.resnet18()) == expected


def test_an_end_of_a_stage_is_not_inside_the_next():
    found = aliases(torchvision.models.mobilenet_v2(), size=64)
    assert [found[f"@stage{n}"] for n in range(1, 5)] == [
        "features.3",
        "features.6",
        "features.13",
        "features",
    ]
    assert found["@pooled"] == "classifier.0"  # its dropout: the pooling before it is a function


def test_what_is_pooled_is_not_a_dropout_if_a_module_made_it():
    found = aliases(torchvision.models.efficientnet_b0(), size=64)
    assert found["@pooled"] == "avgpool"


def test_squeezes_shared_modules_and_functions_do_not_count():
    assert aliases(Squeezed()) == {"@stage1": "first", "@stage2": "last", "@stem": "first"}


def test_a_network_of_one_image_size():
    found = aliases(smallnet(in_channels=1), channels=1)
    assert found["@stage4"] == "pool3"
    assert found["@pooled"] == "relu_fc1"


def test_the_network_is_left_as_it_was():
    network = smallnet(in_channels=1).train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    find_aliases(network, torch.zeros(2, 1, 32, 32), ["conv1"])
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not network.conv1._forward_hooks


def test_losses_read_features_by_alias():
    network = Tapped(smallnet(in_channels=1), role="student")
    for path in ("@stage4", "pool3"):
        network.tap(path)
    features = network(torch.randn(2, 1, 32, 32)).features
    assert torch.equal(features["@stage4"], features["pool3"])
    assert (
        network.described().startswith("pool3 [B, ")
        or "@stage4 = pool3 [B, " in network.described()
    )
    loss = Hint(student_layer="@stage4", teacher_layer="pool3", regressor=False)
    outputs = network(torch.randn(2, 1, 32, 32))
    assert loss(outputs, outputs, torch.zeros(2)) == 0


def test_what_a_network_does_not_have_is_refused():
    network = Tapped(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), role="teacher")
    network.tap("@stage4")
    with pytest.raises(
        ValueError, match=r"the teacher has no @stage4: name a module. Known: @stage1"
    ):
        network(torch.randn(2, 1, 8, 8))


def test_aliases_are_those_of_the_compact_network_while_it_is_expanded():
    """The expanded layers' parameters would make another part the largest."""
    compact = torchvision.models.mobilenet_v3_small(num_classes=7)
    expanded = expand.expand(compact, "cl")
    images = torch.randn(2, 3, 64, 64)
    paths = [path for path, _ in compact.named_modules()]
    own, others = (find_aliases(each, images, paths) for each in (compact, expanded))
    assert own["@stage1"] != others["@stage1"]
    network = Tapped(expanded, compact=compact)
    for alias in own:
        network.tap(alias)
    network(images)
    told = network.described()
    assert all(f"{alias} = {path} [" in told for alias, path in own.items())
