"""Costs: by hand, and against torch's own count of what really runs."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import expand
from expand.costs import Cost
from tests.unit.expand.networks import SmallNet
from tests.unit.expand.test_units import random_layer


def multiply_adds(model: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2


def test_the_costs_of_a_convolution_by_hand():
    layer = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    (row,) = expand.plan(layer, "cl", input_shape=(16, 3, 8, 8)).rows
    compact = 4 * 4 * 8 * 3 * 9
    unfolded = 10 * 10 * 12 * 3 + 4 * 4 * 32 * 12 * 9 + 4 * 4 * 8 * 32
    fold = 9 * 32 * 12 * 3 + 9 * 8 * 32 * 3  # the first two factors first
    assert row.cost == Cost(compact, unfolded, compact + fold / 16)
    (last,) = expand.plan(layer, "cl", stride="last", input_shape=(16, 3, 8, 8)).rows
    unstrided = 10 * 10 * 12 * 3 + 8 * 8 * 32 * 12 * 9 + 4 * 4 * 8 * 32
    assert last.cost == Cost(compact, unstrided, compact + fold / 16)


@pytest.mark.parametrize("seed", range(40))
def test_costs_are_what_torch_counts_on_any_geometry(seed):
    torch.manual_seed(seed)
    layer, x, strategy = random_layer(seed)
    planned = expand.plan(layer, strategy, rate=2, input_shape=x.shape)
    unit = expand.expand(layer, strategy, rate=2)
    (row,) = planned.rows
    assert row.cost.compact * len(x) == multiply_adds(layer, x)
    expand.set_mode(unit, "unfolded")
    assert row.cost.unfolded * len(x) == multiply_adds(unit, x)


@pytest.mark.parametrize("options", [{"conv": "cl"}, {"conv": "none", "linear": True}])
def test_folding_costs_what_torch_counts(options):
    """Without biases, and without CK, whose full convolutions torch counts by their padding."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 5, bias=False), nn.Conv2d(8, 8, 3, groups=2, bias=False),
        nn.Flatten(), nn.Linear(8 * 36, 32, bias=False), nn.Linear(32, 4, bias=False),
    )  # fmt: skip
    x = torch.randn(4, 3, 12, 12)
    planned = expand.plan(model, **options, input_shape=x.shape)
    assert planned.cost.folded * 4 == multiply_adds(expand.expand(model, **options), x)


def test_costs_of_a_network_are_counted_by_call():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv, nn.MaxPool2d(2), conv)
    (row,) = expand.plan(model, "cl", input_shape=(2, 4, 8, 8)).rows
    assert row.cost.compact == 4 * 4 * 9 * (64 + 64 + 16)


def test_a_layer_that_is_never_called_has_no_cost():
    model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0)
    rows = {r.path: r for r in expand.plan(model, linear=True, input_shape=(2, 5, 16))}
    assert rows["self_attn.out_proj"].cost is None
    assert rows["linear1"].cost.compact == 5 * 16 * 32


def test_a_forward_that_wants_values_has_no_cost():
    class Asks(nn.Conv2d):
        def forward(self, input):
            return super().forward(input if input.sum().item() < 1e9 else 0 * input)

    planned = expand.plan(
        nn.Sequential(Asks(3, 4, 3), nn.Conv2d(4, 4, 3)), "cl", input_shape=(2, 3, 8, 8)
    )
    assert str(planned).endswith("folding shared by 2; without 1 layer that cannot be counted")
    assert str(planned).splitlines()[2].split()[-5:] == ["-", "-", "-", "-", "folded"]
    first, second = planned
    assert (first.cost, first.parameters_after > first.parameters_before) == (None, True)
    assert second.cost.compact == 4 * 4 * 4 * 4 * 9
    assert second.kept > 0


def test_what_is_kept_is_counted_apart_from_the_cost():
    class Asks(nn.Conv2d):
        def forward(self, input):
            return super().forward(input.sum().item() + input if torch.is_grad_enabled() else input)

    planned = expand.plan(nn.Sequential(Asks(3, 4, 3)), "cl", input_shape=(2, 3, 8, 8))
    assert (planned.cost.compact, planned.rows[0].kept) == (36 * 4 * 3 * 9, None)
    assert "without 1 layer that cannot be counted" in str(planned)


def test_a_product_is_kept_once_however_often_it_is_used():
    class Thrice(nn.Conv2d):
        def forward(self, input):
            shape = self.weight.shape
            return self._conv_forward(input, self.weight.view(shape), self.bias)

    conv, reads = nn.Conv2d(4, 4, 3, padding=1, bias=False), Thrice(4, 4, 3, padding=1, bias=False)
    kept = []
    for model in (nn.Sequential(conv), nn.Sequential(*[conv] * 4), nn.Sequential(reads)):
        kept.append(expand.plan(model, "cl", input_shape=(2, 4, 8, 8)).rows[0].kept)
    product = 4 * 4 * 9  # of the last two factors [4, 4, 3, 3], and of all
    assert kept == [4 * 2 * product / 2] * 3


def test_layers_that_are_called_unbatched_have_no_cost():
    class Each(nn.Sequential):
        def forward(self, input):
            return torch.stack([super(Each, self).forward(image) for image in input])

    model = Each(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    for batch in (3, 8):  # the first is a number of channels, too
        planned = expand.plan(model, "cl", input_shape=(batch, 3, 8, 8))
        assert [row.cost for row in planned] == [None, None]
        assert "without 2 layers that cannot be counted" in str(planned)


def test_errors_of_ours_are_not_hidden(monkeypatch):
    monkeypatch.setattr("expand.rewriting.kept_bytes", None)
    with pytest.raises(TypeError, match="not callable"):
        expand.plan(SmallNet(3), "cl", input_shape=(8, 3, 32, 32))


def test_auto_runs_each_layer_in_its_cheapest_mode():
    torch.manual_seed(0)
    model = SmallNet(7)
    modes = {}
    for batch in (8, 512):
        expanded = expand.expand(
            model, "ck", linear=True, mode="auto", input_shape=(batch, 3, 32, 32)
        )
        modes[batch] = {path: unit.mode for path, unit in expand.units(expanded)}
    assert modes[8] == {"features.0": "folded", "features.4": "folded",
                        "features.8": "folded", "fc1": "unfolded"}  # fmt: skip
    assert set(modes[512].values()) == {"folded"}
    table = str(expand.plan(model, "ck", linear=True, input_shape=(8, 3, 32, 32)))
    assert "folding shared by 8" in table.splitlines()[-1]
    assert table.splitlines()[5].split()[-1] == "unfolded"


def test_the_transform_comes_back_to_each_layers_mode():
    transform = expand.ExpandNet("ck", linear=True, mode="auto", input_shape=(8, 3, 32, 32))
    student = transform.apply(SmallNet(7))
    before = {path: unit.mode for path, unit in expand.units(student)}
    transform.enter(student, "nonlinear")
    assert {unit.mode for _, unit in expand.units(student)} == {"nonlinear"}
    transform.enter(student, "linear")
    assert {path: unit.mode for path, unit in expand.units(student)} == before
    assert list(transform.restore(student).state_dict()) == list(SmallNet(7).state_dict())


def test_counting_leaves_the_model_as_it_was():
    model = SmallNet(3).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    expand.plan(model, "cl", input_shape=(8, 3, 32, 32))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"SmallNet fails on a batch of \[2, 1, 32, 32\]"):
        expand.plan(SmallNet(3), "cl", input_shape=(8, 1, 32, 32))
    with pytest.raises(ValueError, match=r"input_shape: \(8, -1\) is not \(batch, channels"):
        expand.plan(SmallNet(3), "cl", input_shape=(8, -1))
    with pytest.raises(ValueError, match="mode: 'auto' needs input_shape"):
        expand.expand(SmallNet(3), "cl", mode="auto")


def test_a_forward_that_takes_more_than_one_input_has_no_cost():
    class Two(nn.Conv2d):
        def forward(self, input, scale):
            return super().forward(input) * scale

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.two, self.one = Two(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, images):
            return self.one(self.two(images, 2.0))

    two, one = expand.plan(Model(), "cl", input_shape=(2, 3, 8, 8))
    assert two.cost is None
    assert one.cost.compact == 4 * 4 * 4 * 4 * 9
