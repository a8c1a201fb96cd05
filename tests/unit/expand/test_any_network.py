"""Networks with tricks: what a user's model may do, and what `expand` leaves alone."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn
from torch.ao.nn.quantized import Linear as QuantisedLinear
from torch.ao.nn.quantized.dynamic import Linear as DynamicLinear

import expand
from tests.unit.expand.networks import relative_error


class Scaled(nn.Conv2d):
    """A subclass with a forward of its own."""

    def forward(self, input):
        weight = self.weight / self.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return self._conv_forward(input, weight, self.bias)


class Tricky(nn.Module):
    """A shared convolution, a weight that the parent reads, a subclass, a ModuleDict, a hook."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.parts = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3, padding="same"),
                                    "again": self.shared})  # fmt: skip
        self.read = nn.Conv2d(4, 8, 3, bias=False)
        self.scaled = Scaled(8, 8, 5, padding=2, padding_mode="circular")
        self.frozen = nn.Conv2d(8, 8, 3, groups=4, dilation=2, padding=2).requires_grad_(False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)
        self.frozen.register_forward_hook(lambda module, inputs, output: 2 * output)

    def forward(self, x):
        x = self.shared(self.parts["stem"](x).relu())
        x = self.parts["again"](x)
        x = nn.functional.conv2d(x, self.read.weight.flip(-1), self.read.bias)
        x = self.norm(self.frozen(self.scaled(x))).relu()
        return self.head(x.mean((2, 3)))


def tricky() -> tuple[Tricky, torch.Tensor]:
    torch.manual_seed(0)
    return Tricky().double(), torch.randn(8, 3, 12, 12, dtype=torch.float64)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("conv", ["auto", "cl", "ck"])
def test_a_network_with_tricks_comes_back_the_same(conv, linear):
    model, x = tricky()
    expanded = expand.expand(model, conv, linear=linear, classifier="expand", rate=2)
    optimizer = torch.optim.SGD(expanded.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        expanded(x).square().sum().backward()
        optimizer.step()
    expanded.eval()
    compact = expand.compress(expanded)
    assert relative_error(compact(x), expanded(x)) < 1e-12
    assert list(compact.state_dict()) == list(model.state_dict())
    assert [type(m) for m in compact.modules()] == [type(m) for m in model.modules()]
    assert compact.parts["again"] is compact.shared
    assert not compact.frozen.weight.requires_grad


@pytest.mark.parametrize(
    "layer",
    [
        Conv2dSame(4, 6, 3, stride=2, bias=True),
        Conv2dSame(4, 6, 5, stride=2, dilation=2, bias=False),
        StdConv2d(4, 6, 3, padding=1),
        StdConv2dSame(4, 6, 5, stride=2),
        ScaledStdConv2d(4, 6, 3, padding=1),
        ScaledStdConv2dSame(4, 6, 3, stride=2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_timms_convolutions_keep_their_own_forward(layer):
    torch.manual_seed(0)
    layer = copy.deepcopy(layer).double()
    x = torch.randn(2, 4, 13, 13, dtype=torch.float64)
    kept = expand.expand(layer, init="preserve")
    assert relative_error(kept(x), layer(x)) < 1e-12
    unit = expand.expand(layer, rate=2)
    compact = expand.compress(unit)
    assert type(compact) is type(layer)
    assert relative_error(compact(x), unit(x)) < 1e-12
    weights = torch.randn_like(unit(x))
    direct = torch.autograd.grad((unit(x) * weights).sum(), list(unit.parameters()))
    assert all(g.isfinite().all() and g.any() for g in direct)


@pytest.mark.parametrize("cls", ["ExpandNet", "OREPA", "DOConv", "RepVGG", "ACNet", "DBB"])
def test_a_frozen_bias_stays_what_it_is(cls):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1))
    with torch.no_grad():
        network[1].bias.fill_(5).requires_grad_(False)
    transform = getattr(expand, cls)()
    student = transform.apply(network).train()
    for _ in range(2):
        student(torch.randn(4, 3, 9, 9))
    for parameter in student.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    compact, images = transform.restore(student).eval(), torch.randn(2, 3, 9, 9)
    assert torch.equal(compact[1].bias, network[1].bias)
    assert not compact[1].bias.requires_grad
    assert torch.allclose(compact(images), student.eval()(images), atol=1e-4)


def test_frozen_layers_are_left_as_they_are():
    model, x = tricky()
    expanded = expand.expand(model, "cl", stem="expand")
    assert type(expanded.frozen) is nn.Conv2d
    expanded(x).sum().backward()
    assert expanded.frozen.weight.grad is None
    torch.optim.SGD([p for p in expanded.parameters() if p.requires_grad], lr=0.1).step()
    assert torch.equal(expand.compress(expanded).frozen.weight, model.frozen.weight)


def test_a_shared_layer_is_chosen_by_any_of_its_paths():
    model, _ = tricky()
    for pattern in ("shared", "parts.again", "parts.*n"):
        rows = {row.path: row for row in expand.plan(model, "cl", select=pattern)}
        assert [path for path, row in rows.items() if row.strategy] == ["shared"]


def test_layers_are_chosen_by_kind():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, groups=8, stride=(1, 2)), nn.Conv2d(8, 8, 1), nn.Flatten(),
        nn.Linear(8, 2),
    )  # fmt: skip

    def chosen(*select):
        return [row.path for row in expand.plan(model, "cl", select=select).expanded]

    assert chosen("@stem") == ["0"]
    assert chosen("@depthwise") == ["1", "2"]
    assert chosen("@strided") == ["0", "2"]
    multiplied = nn.Sequential(nn.Conv2d(8, 16, 3, groups=8))
    assert expand.plan(multiplied, "cl", select="@depthwise").expanded
    assert chosen("@stem", "3") == ["0", "3"]
    overrides = {"@depthwise": {"rate": 2}}
    rows = expand.plan(model, "cl", overrides=overrides, pointwise="expand").rows
    assert [row.factors[1].inputs for row in rows[:4]] == [3, 16, 16, 32]
    with pytest.raises(ValueError, match=r"'@deep' is not a layer kind. Known: @stem, @depthw"):
        chosen("@deep")
    with pytest.raises(ValueError, match=r"'@depthwise' matches no layer. Nearest of 1: 0"):
        expand.plan(nn.Sequential(nn.Conv2d(3, 4, 3)), select="@depthwise")


def test_convolutions_of_kernel_1_are_kept_unless_they_are_asked_for():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, (1, 3)), nn.Conv2d(8, 4, 1)
    )

    def chosen(conv="cl", **options):
        return [row.path for row in expand.plan(model, conv, **options).expanded]

    assert chosen() == chosen("auto") == chosen(select=["?"]) == ["0", "2"]
    assert chosen(pointwise="expand") == chosen("auto", preset="cl") == ["0", "1", "2", "3"]
    assert chosen(select=["3"]) == ["3"]
    assert chosen(select=["0", "3"], pointwise="keep") == ["0"]
    assert "CK needs a kernel above 3" in str(expand.plan(model, "ck"))
    assert "is kept" not in str(expand.plan(model, "ck"))
    assert chosen(overrides={"1": {"conv": "cl"}}) == ["0", "1", "2"]
    assert chosen(overrides={"1": {"pointwise": "expand"}, "0": {"rate": 2}}) == ["0", "1", "2"]
    assert expand.plan(model[1], "cl").expanded  # the layer itself
    (row,) = (row for row in expand.plan(model, "cl") if row.path == "1")
    assert row.reason == "1x1 is kept (pointwise='expand' expands it)"
    with pytest.raises(ValueError, match="pointwise: 'none' is not one of keep, expand"):
        chosen(pointwise="none")


@pytest.mark.parametrize("given", [[], (), ""])
def test_an_empty_selection_is_refused(given):
    with pytest.raises(ValueError, match="select: an empty list selects no layer: leave it out"):
        expand.plan(nn.Conv2d(3, 4, 3), "cl", select=given)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_what_is_no_plain_layer_is_listed_with_its_reason():
    model = nn.ModuleDict({
        "attention": nn.MultiheadAttention(8, 2),
        "lstm": nn.LSTM(8, 8),
        "complex": nn.Linear(4, 4, dtype=torch.complex64),
        "quantised": QuantisedLinear(4, 4),
        "dynamic": DynamicLinear(4, 4),
        "conv": nn.Conv2d(3, 3, 3),
    })  # fmt: skip
    planned = expand.plan(model, "cl", linear=True, classifier="expand")
    reasons = {row.path: row.reason for row in planned}
    projections = "the projections of {} are not layers of their own"
    assert reasons == {
        "attention": projections.format("MultiheadAttention"),
        "attention.out_proj": "",
        "lstm": projections.format("LSTM"),
        "complex": "its weight is of torch.complex64",
        "quantised": "it is quantised",
        "dynamic": "it is quantised",
        "conv": "",
    }
    assert planned.parameters[0] == sum(p.numel() for p in model.parameters())


def test_a_weight_that_is_no_plain_tensor_is_left_alone():
    class Packed(torch.Tensor):
        pass

    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.randn(4, 4).as_subclass(Packed))
    (row,) = expand.plan(layer, linear=True).rows
    assert row.reason == "its weight is a Packed"


@pytest.mark.parametrize("conv", ["cl", "ck"])
def test_a_bias_on_the_last_factor_alone(conv):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 5, padding=2, dilation=2, groups=2).double()
    unit = expand.expand(layer, conv, rate=2, biases="last")
    assert [factor.bias is not None for factor in unit.factors][-2:] == [False, True]
    (row,) = expand.plan(layer, conv, rate=2, biases="last").rows
    assert row.parameters_after == sum(p.numel() for p in unit.parameters())
    x = torch.randn(2, 4, 13, 13, dtype=torch.float64)
    folded = unit(x)
    expand.set_mode(unit, "unfolded")
    assert relative_error(unit(x), folded) < 1e-13
    assert relative_error(expand.compress(unit)(x), folded) < 1e-13
    for init in ("scaled", "preserve"):
        kept = expand.expand(layer, "cl", rate=2, biases="last", init=init)
        assert torch.equal(kept.bias, layer.bias)


def test_inner_widths_as_data():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 4, 7))
    overrides = {"0": {"widths": [6, 10]}, "1": {"conv": "ck", "widths": [5, 9]}}
    rows = expand.plan(model, "cl", overrides=overrides).rows
    assert [[f.outputs for f in row.factors] for row in rows] == [[6, 10, 8], [5, 9, 4]]
    for widths, message in (
        ([6], r"0: widths: \[6\] has 1 values, .* CL chain has 2 inner"),
        ([6, 9], "0: widths: 9 is not a multiple of the layer's 2 groups"),
        ([6, 0], r"overrides\['0'\]: widths: \[6, 0\] is not a list of channel counts"),
        (6, r"overrides\['0'\]: widths: 6 is not a list of channel counts"),
    ):
        with pytest.raises(ValueError, match=message):
            expand.plan(model, "cl", overrides={"0": {"widths": widths}})


def test_unknown_options_are_named():
    with pytest.raises(TypeError, match=r"'rte' is not an option. Known: preset, linear, rate"):
        expand.plan(nn.Conv2d(3, 4, 3), rte=3)
    with pytest.raises(ValueError, match="biases: 'first' is not one of all, last"):
        expand.plan(nn.Conv2d(3, 4, 3), biases="first")


def test_the_expanded_state_dict_moves_between_networks_and_types(tmp_path):
    model, x = tricky()
    first = expand.expand(model, "auto", rate=2).eval()
    torch.save(first.state_dict(), tmp_path / "expanded.pth")
    torch.manual_seed(1)
    second = expand.expand(model, "auto", rate=2).eval()
    assert relative_error(second(x), first(x)) > 1e-3
    second.load_state_dict(torch.load(tmp_path / "expanded.pth", weights_only=True), strict=True)
    assert torch.equal(second(x), first(x))
    moved = copy.deepcopy(second).float()
    assert relative_error(moved(x.float()), first(x).float()) < 1e-5
    assert relative_error(moved.double()(x), first(x)) < 1e-5


def test_planning_and_expanding_need_no_memory_on_the_meta_device():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 1024, 7), nn.Flatten(), nn.Linear(4096, 100_000))
    expanded = expand.expand(model, "ck", linear=True, classifier="expand")
    assert {p.device.type for p in expanded.parameters()} == {"meta"}
    assert expanded[2].weight.shape == (100_000, 4096)
