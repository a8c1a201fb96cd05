import copy

import pytest
import torch
from torch import nn

import expand
from tests.unit.expand.networks import SmallNet, relative_error, warm_up

PRESERVED = [
    (nn.Linear(6, 4), {"linear": True, "rate": 1}),
    (nn.Linear(4, 6, bias=False), {"linear": True, "rate": 3}),
    (nn.Conv2d(3, 8, 3), {"conv": "cl", "rate": 1}),
    (nn.Conv2d(8, 4, 3, stride=2, padding=1, bias=False), {"conv": "cl", "rate": 4}),
    (nn.Conv2d(8, 8, 3, groups=8), {"conv": "cl"}),
    (nn.Conv2d(8, 8, 3, groups=8), {"conv": "cl", "depthwise": "channelwise", "stem": "expand"}),
    (nn.Conv2d(8, 16, 1, groups=2), {"conv": "cl", "rate": 1.5}),
    (nn.Conv1d(4, 6, 4, dilation=2), {"conv": "cl"}),
    (nn.Conv3d(2, 3, 3), {"conv": "cl"}),
    (nn.Conv2d(8, 16, 5, padding=2), {"conv": "ck", "rate": 4}),
    (nn.Conv2d(8, 16, 7, padding=3, groups=4), {"conv": "ck", "rate": 4}),
    (nn.Conv2d(8, 4, (1, 7)), {"conv": "ck", "rate": 2}),
    (nn.Conv2d(8, 4, (9, 5)), {"conv": "ck", "rate": 4}),
    (nn.Conv2d(2, 2, 9), {"conv": "ck", "rate": 16}),
]


@pytest.mark.parametrize(("layer", "options"), PRESERVED, ids=str)
def test_preserve_keeps_the_layers_function(layer, options):
    torch.manual_seed(0)
    layer = copy.deepcopy(layer).double()
    unit = expand.expand(layer, init="preserve", **({"conv": None} | options))
    assert relative_error(unit.weight, layer.weight) < 1e-13
    if layer.bias is not None:
        assert torch.equal(unit.bias, layer.bias)


def test_preserved_factors_all_learn():
    """Every number of every factor has a gradient: the widths are used, not padded with zeros."""
    torch.manual_seed(0)
    unit = expand.expand(nn.Conv2d(4, 6, 5), "ck", rate=6, init="preserve", stem="expand")
    unit(torch.randn(8, 4, 9, 9)).square().sum().backward()
    assert all((f.weight.grad != 0).all() for f in unit.factors)
    before = [f.weight.detach().clone() for f in unit.factors]
    torch.optim.SGD(unit.parameters(), lr=1e-3).step()
    assert all((f.weight != b).any() for f, b in zip(unit.factors, before, strict=True))


def test_preserve_keeps_a_networks_function_through_compression():
    torch.manual_seed(0)
    model = warm_up(SmallNet(7).double(), 32, 3, 32, 32)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for conv in ("cl", "ck"):
        options = {"linear": True, "classifier": "expand", "stem": "expand"}
        expanded = expand.expand(model, conv, init="preserve", **options)
        assert relative_error(expanded(x), model(x)) < 1e-12
        assert relative_error(expand.compress(expanded)(x), model(x)) < 1e-12


def test_preserve_refuses_factors_that_are_too_narrow():
    message = r"features.0: init='preserve' cannot be exact with inner widths 3, 32: raise"
    with pytest.raises(ValueError, match=message):
        expand.expand(SmallNet(7), "ck", init="preserve")
    with pytest.raises(ValueError, match="inner widths 2, 2: raise the rate"):
        expand.expand(nn.Linear(4, 4), linear=True, rate=0.5, init="preserve")


@pytest.mark.parametrize(("conv", "kernel"), [("cl", 3), ("ck", 7)])
def test_scaled_has_the_layers_own_variance_where_the_default_fades(conv, kernel):
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 32, kernel)
    own = layer.weight.detach().square().mean()
    scaled = expand.expand(layer, conv, init="scaled", stem="expand")
    assert scaled.weight.detach().square().mean().item() == pytest.approx(own.item(), rel=1e-4)
    assert torch.equal(scaled.bias, layer.bias)
    default = expand.expand(layer, conv, stem="expand")
    assert default.weight.square().mean() < 0.2 * own  # 1/9, from the variances 1 / (3 fan_in)


def test_scaled_keeps_signals_alive_without_batchnorm():
    """Ten layers deep: a fresh compact network's signal, and those of its expansions."""
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.ReLU()) for _ in range(10)
    ]
    for layer in layers:
        nn.init.kaiming_normal_(layer[0].weight, nonlinearity="relu")
    model = nn.Sequential(*layers)
    x = torch.randn(8, 16, 12, 12)
    compact, default, scaled = (
        network(x).square().mean().sqrt().item()
        for network in (
            model,
            expand.expand(model, "cl", stem="expand"),
            expand.expand(model, "cl", stem="expand", init="scaled"),
        )
    )
    assert 0.1 < scaled / compact < 10
    assert default / compact < 1e-6


def test_unknown_inits_are_refused():
    with pytest.raises(ValueError, match="init: 'zeros' is not one of default, scaled, preserve"):
        expand.expand(SmallNet(3), init="zeros")
