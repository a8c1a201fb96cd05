"""Whatever the layout of a module's output, losses read [B, C, H, W], [B, N, C] or [B, C]."""

import pytest
import torch
from torch import Tensor, nn

from kdx.losses import Hint
from kdx.models.features import Tapped
from kdx.models.students import smallnet
from kdx.protocols import Outputs

B, IMAGES = 4, (4, 3, 16, 16)


class Moved(nn.Module):
    """Patches of 4 x 4 pixels as C channels, in another order of axes; any size, or one only."""

    def __init__(self, axes: str, *, channels: int = 6, size: int | None = None) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 4, stride=4)
        self.norm = nn.GroupNorm(1, channels)
        self.axes, self.size, self.out = axes, size, Reorder(axes, self.norm)

    def forward(self, images: Tensor) -> Tensor:
        if self.size and images.shape[2:] != (self.size, self.size):
            raise AssertionError("another size")
        value = self.patches(images)
        return self.out(value).flatten(1).sum(1, keepdim=True)


class Reorder(nn.Module):
    def __init__(self, axes: str, norm: nn.Module) -> None:
        super().__init__()
        self.axes, self.norm = axes, norm

    def forward(self, value: Tensor) -> Tensor:
        if "n" in self.axes:
            return value.flatten(2).permute(["bcn".index(letter) for letter in self.axes])
        return value.permute(["bchw".index(letter) for letter in self.axes])


def read(module, path="out", images=IMAGES):
    network = Tapped(module, role="teacher")
    network.tap(path)
    return network(torch.randn(images)).features[path], network


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("axes", ["bchw", "bhwc", "bnc"])
def test_the_channels_are_found_at_any_size_and_at_one(axes, size):
    module = Moved(axes, channels=12, size=size)
    images = torch.randn(IMAGES)
    network = Tapped(module, role="teacher")
    network.tap("out")
    found = network(images).features["out"]
    maps = module.patches(images)
    expected = maps.flatten(2).transpose(1, 2) if axes == "bnc" else maps
    assert torch.equal(found, expected)
    assert network.layouts == {"out": axes}
    assert module.training


@pytest.mark.parametrize("axes", ["bcn", "nbc", "cbn", "bwhc", "hwbc", "chwb"])
def test_every_order_is_told_by_other_sizes(axes):
    module = Moved(axes)
    images = torch.randn(IMAGES)
    network = Tapped(module, role="teacher")
    network.tap("out")
    maps = module.patches(images)
    expected = maps.flatten(2).transpose(1, 2) if "n" in axes else maps
    assert torch.equal(network(images).features["out"], expected)


@pytest.mark.parametrize("axes", ["bchw", "bhwc"])
def test_as_many_channels_as_rows_are_told_by_other_sizes_only(axes):
    found, _ = read(Moved(axes, channels=4))
    assert found.shape == (B, 4, 4, 4)
    with pytest.raises(
        ValueError,
        match=r"^unclear layout of the output of the teacher's 'out': \[4, 4, 4, 4\] for 4 images "
        r"of 16 x 16: .* Append it, as in 'out:bhwc'",
    ):
        read(Moved(axes, channels=4, size=16))
    module = Moved(axes, channels=4, size=16)
    images = torch.randn(IMAGES)
    network = Tapped(module, role="teacher")
    network.tap(f"out:{axes}")
    assert torch.equal(network(images).features[f"out:{axes}"], module.patches(images))


def test_as_many_channels_as_tokens_are_told_by_the_modules_parameters():
    """16 tokens of 17 channels, and 17 = 16 + 1 might be tokens, too; GroupNorm has 17 weights."""
    found, network = read(Moved("bnc", channels=17, size=16))
    assert found.shape == (B, 16, 17)
    assert network.layouts == {"out": "bnc"}
    with pytest.raises(ValueError, match="unclear layout"):
        read(nn.Sequential(Moved("bnc", channels=16, size=16)), "0.out")


def test_images_that_are_not_square():
    for axes in ("bchw", "bhwc"):
        found, _ = read(Moved(axes, channels=6), images=(B, 3, 16, 24))
        assert found.shape == (B, 6, 4, 6)


def test_pools_of_one_size_and_vectors():
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    assert read(network, "1")[0].shape == (B, 5, 2, 2)
    assert read(network, "2")[0].shape == (B, 20)


def test_layers_before_one_that_fails_at_other_sizes_are_told():
    found, network = read(smallnet(), "pool3", (B, 3, 32, 32))
    assert found.shape == (B, 32, 2, 2)
    assert network.layouts == {"pool3": "bchw"}


class Windows(nn.Module):
    """Windows of 4 x 4 pixels, each as a sample of its own; or weights of pairs of tokens."""

    def __init__(self, *, pairs: bool) -> None:
        super().__init__()
        self.pairs, self.out = pairs, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3).flatten(3).transpose(1, 2)
        if self.pairs:  # [B, heads, N, N]
            heads = tokens.transpose(1, 2)
            return self.out(heads @ heads.transpose(2, 3)).flatten(1)
        return self.out(tokens.flatten(0, 1)).flatten(1)


def test_what_is_neither_maps_nor_tokens_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^no axis is the batch in the output of the teacher's 'out': \[64, 3, 16\] for 4 "
        r"images: choose another module",
    ):
        read(Windows(pairs=False))
    with pytest.raises(ValueError, match=r"unclear layout of .* \[4, 3, 16, 16\] for 4 images"):
        read(Windows(pairs=True))


def test_a_layout_in_the_path_must_fit():
    module = Moved("bhwc")
    for layout in ("bnc", "hbwc"):
        with pytest.raises(ValueError, match=rf"does not fit the output of the .*'out:{layout}'"):
            read(module, f"out:{layout}", (3, 3, 16, 16))
    with pytest.raises(ValueError, match=r"'out:xy': 'xy' is neither the number of a call nor a"):
        read(module, "out:xy")


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    network[1].eval()
    tapped = Tapped(network)
    tapped.tap("0")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tapped(torch.randn(IMAGES))
    assert [module.training for module in network] == [True, False, True]
    changed = [n for n, value in network.state_dict().items() if not torch.equal(before[n], value)]
    assert changed == []


def test_a_hint_learns_channels_of_a_channels_last_map():
    student, teacher = read(Moved("bchw", channels=3))[0], read(Moved("bhwc", channels=12))[0]
    loss = Hint(student_layer="a", teacher_layer="b")
    loss(Outputs(student, {"a": student}), Outputs(teacher, {"b": teacher}), torch.zeros(B))
    assert loss.state_dict()["regressor.weight"].shape == (12, 3, 1, 1)


@pytest.mark.parametrize(("layer", "width"), [("layers.2", 384), ("layers.3", 768)])
@pytest.mark.parametrize("size", [64, 32])
def test_swin(layer, width, size):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    arguments = {"img_size": size, "window_size": 2, "depths": (1, 1, 1, 1), "num_classes": 4}
    swin = timm.create_model("swin_tiny_patch4_window7_224", **arguments).eval()
    found, network = read(swin, layer, (2, 3, size, size))
    side = size // (16 if layer == "layers.2" else 32)
    assert found.shape == (2, width, side, side)
    assert network.described() == f"{layer} [B, {width}, {side}, {side}] (from bhwc)"
