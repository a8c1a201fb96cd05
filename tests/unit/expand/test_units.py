import copy
import pickle

import pytest
import torch
from torch import nn

import expand
from tests.unit.expand.networks import relative_error

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def random_layer(seed: int) -> tuple[nn.Module, torch.Tensor, str]:
    """A convolution of any geometry, an input for it, and a strategy that fits it."""
    draw = torch.Generator().manual_seed(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), (), generator=draw))]

    dimensions = pick(1, 2, 2, 2, 3)
    strategy = pick("cl", "ck")
    sizes = (1, 2, 3, 4, 5) if strategy == "cl" else (5, 7) if dimensions < 3 else (5,)
    kernel = tuple(pick(*sizes) for _ in range(dimensions))
    groups = pick(1, 1, 2, 4)
    padding_mode = pick("zeros", "zeros", "reflect", "replicate", "circular")
    stride = tuple(pick(1, 2) for _ in range(dimensions))
    even = any(size % 2 == 0 for size in kernel)  # torch warns of 'same' there
    padding = pick(0 if even else "same", "valid", 0, 1, 2)
    layer = CONV[dimensions](
        4,
        pick(4, 8),
        kernel,
        stride=1 if padding == "same" else stride,
        padding=padding,
        dilation=pick(1, 2),
        groups=groups,
        bias=pick(True, False),
        padding_mode=padding_mode,
    )
    size = 17 if dimensions < 3 else 11
    return layer.double(), torch.randn(2, 4, *[size] * dimensions, dtype=torch.float64), strategy


@pytest.mark.parametrize("seed", range(200))
def test_folded_unfolded_and_compressed_agree_on_any_geometry(seed):
    torch.manual_seed(seed)
    layer, x, strategy = random_layer(seed)
    unit = expand.expand(layer, conv=strategy, rate=2, stride="last" if seed % 2 else "middle")
    x = x.requires_grad_()
    weights = torch.randn_like(unit(x))
    results = {}
    for mode in ("folded", "unfolded"):
        expand.set_mode(unit, mode)
        y = unit(x)
        results[mode] = [y, *torch.autograd.grad((y * weights).sum(), [x, *unit.parameters()])]
    for folded, unfolded in zip(*results.values(), strict=True):
        assert relative_error(folded, unfolded) < 1e-11
    assert relative_error(expand.compress(unit)(x), results["unfolded"][0]) < 1e-11


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6)])
def test_linear_agrees_in_every_mode(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias=bias).double()
    unit = expand.expand(layer, linear=True, rate=3)
    assert [tuple(f.weight.shape) for f in unit.factors] == [(18, 6), (12, 18), (4, 12)]
    x = torch.randn(*shape, dtype=torch.float64)
    folded = unit(x)
    expand.set_mode(unit, "unfolded")
    assert relative_error(folded, unit(x)) < 1e-13
    assert relative_error(expand.compress(unit)(x), folded) < 1e-13


def test_channelwise_depthwise_agrees():
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6).double()
    unit = expand.expand(layer, conv="cl", stem="expand", depthwise="channelwise", stride="last")
    assert [f.groups for f in unit.factors] == [6, 24, 6]
    x = torch.randn(2, 6, 9, 9, dtype=torch.float64)
    folded = unit(x)
    expand.set_mode(unit, "unfolded")
    assert relative_error(folded, unit(x)) < 1e-13


def test_nonlinear_puts_relu_between_the_factors():
    unit = expand.expand(nn.Linear(1, 1), linear=True, rate=1)
    for factor, weight in zip(unit.factors, (1.0, 1.0, -2.0), strict=True):
        nn.init.constant_(factor.weight, weight)
        nn.init.zeros_(factor.bias)
    x = torch.tensor([[3.0], [-3.0]])
    assert unit(x).tolist() == [[-6.0], [6.0]]
    expand.set_mode(unit, "nonlinear")
    assert unit(x).tolist() == [[-6.0], [0.0]]
    with pytest.raises(ValueError, match="nonlinear mode, which has no compact equivalent"):
        expand.compress(unit)


def test_a_unit_has_the_weight_and_bias_of_the_layer():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 3, padding=1)
    unit = expand.expand(layer, conv="cl")
    assert isinstance(unit, nn.Conv2d)
    assert unit.weight.shape == layer.weight.shape
    assert unit.bias.shape == layer.bias.shape
    assert sorted(unit.state_dict()) == sorted(
        f"factors.{i}.{name}" for i in range(3) for name in ("weight", "bias")
    )


def test_folding_stays_in_float32_under_autocast():
    torch.manual_seed(0)
    unit = expand.expand(nn.Linear(64, 64), linear=True)
    exact = unit.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = unit.weight
        output = unit(torch.randn(2, 64))
    assert weight.dtype == torch.float32
    assert torch.equal(weight, exact)
    assert output.dtype == torch.bfloat16


def test_half_precision_factors_are_multiplied_in_float32():
    torch.manual_seed(0)
    unit = expand.expand(nn.Linear(64, 64), linear=True).bfloat16()
    wide = copy.deepcopy(unit).float()
    assert unit.weight.dtype == torch.bfloat16
    assert torch.equal(unit.weight, wide.weight.bfloat16())


def test_a_subclass_keeps_its_own_forward():
    class Doubled(nn.Conv2d):
        def forward(self, input):
            return 2 * super().forward(input)

    torch.manual_seed(0)
    unit = expand.expand(Doubled(3, 4, 3), conv="cl")
    x = torch.randn(1, 3, 8, 8)
    expected = 2 * nn.functional.conv2d(x, unit.weight, unit.bias)
    for mode in ("folded", "unfolded"):
        expand.set_mode(unit, mode)
        assert relative_error(unit(x), expected) < 1e-6
    assert type(expand.compress(unit)) is Doubled


def test_a_subclass_with_a_convolution_of_its_own_is_folded_in_every_mode():
    class Centred(nn.Conv2d):
        def _conv_forward(self, input, weight, bias):
            return super()._conv_forward(input, weight - weight.mean(1, keepdim=True), bias)

    torch.manual_seed(0)
    layer = Centred(3, 4, 3)
    x = torch.randn(1, 3, 8, 8)
    for mode in ("folded", "unfolded"):
        unit = expand.expand(layer, "cl", init="preserve", mode=mode, stem="expand")
        assert relative_error(unit(x), layer(x)) < 1e-5
    (row,) = expand.plan(layer, "cl", input_shape=(1, 3, 8, 8)).rows
    assert row.cost.unfolded is None


def test_copies_and_state_dicts_of_units_are_independent():
    torch.manual_seed(0)
    unit = expand.expand(nn.Conv2d(3, 4, 5, padding=2), conv="ck")
    twin = copy.deepcopy(unit)
    twin.reset_parameters()
    x = torch.randn(1, 3, 8, 8)
    assert relative_error(twin(x), unit(x)) > 0.1
    twin.load_state_dict(unit.state_dict(), strict=True)
    assert torch.equal(twin(x), unit(x))


def test_frozen_weights_are_left_alone_and_frozen_units_stay_frozen():
    layer = nn.Conv2d(3, 4, 3)
    layer.weight.requires_grad_(False)
    assert expand.plan(layer, "cl").rows[0].reason == "its weight is frozen"
    unit = expand.expand(nn.Conv2d(3, 4, 3), conv="cl")
    for factor in unit.factors:
        factor.weight.requires_grad_(False)
    compact = expand.compress(unit)
    assert (compact.weight.requires_grad, compact.bias.requires_grad) == (False, True)


def test_set_mode_refuses_unknown_modes_and_plain_networks():
    with pytest.raises(ValueError, match="'fold' is not one of folded, unfolded, nonlinear"):
        expand.set_mode(expand.expand(nn.Conv2d(3, 4, 3)), "fold")
    with pytest.raises(ValueError, match="Linear has no expanded layer"):
        expand.set_mode(nn.Linear(2, 2), "folded")


def test_what_is_written_to_the_weight_of_a_unit_is_refused():
    unit = expand.expand(nn.Conv2d(3, 4, 3), "cl")
    with pytest.raises(AttributeError, match="cannot set the weight of an expanded layer"):
        unit.weight = nn.Parameter(torch.zeros(4, 3, 3, 3))


def test_an_expanded_network_is_pickled_and_saved(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.Flatten(), nn.Linear(4 * 64, 3))
    expanded = expand.expand(model, "ck", linear=True, classifier="expand")
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(pickle.loads(pickle.dumps(expanded))(x), expanded(x))
    torch.save(expanded, tmp_path / "expanded.pt")
    loaded = torch.load(tmp_path / "expanded.pt", weights_only=False)  # our own file, just written
    assert torch.equal(expand.compress(loaded)(x), expand.compress(expanded)(x))


def test_compile_captures_an_expanded_network_in_one_graph():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten())
    expanded = expand.expand(model, "auto")
    x = torch.randn(2, 3, 8, 8)
    compiled = torch.compile(expanded, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), expanded(x))


def swapped_dynamically(network):
    return torch.ao.quantization.quantize_dynamic(network, {nn.Linear})


def swapped_for_training(network):
    network.train().qconfig = torch.ao.quantization.get_default_qat_qconfig()
    return torch.ao.quantization.prepare_qat(network)


def swapped_by_hand(network):
    network[0].factors[1] = nn.Identity()
    return network


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("swap", [swapped_dynamically, swapped_for_training, swapped_by_hand])
def test_replaced_factors_are_refused_with_the_remedy(swap):
    network = swap(expand.expand(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)), linear=True))
    message = r"factor \d of an expanded Linear was replaced by a torch.*expand.compress\(network\)"
    with pytest.raises(TypeError, match=message):
        network(torch.randn(2, 6))
    with pytest.raises(TypeError, match=message):
        expand.compress(network)


@pytest.mark.parametrize("init", ["scaled", "preserve"])
def test_the_meta_device_has_no_values_to_start_from(init):
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 4))
    assert expand.expand(network, "cl")[0].weight.is_meta
    with pytest.raises(ValueError, match=rf"0: init='{init}' needs the layer's values, and"):
        expand.expand(network, "cl", init=init)
