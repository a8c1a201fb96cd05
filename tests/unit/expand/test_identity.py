"""ExpandNets whose chains add the layer's input."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import expand
from tests.unit.expand.networks import relative_error

IDENTITIES = [
    (nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=2), (4, 9, 9)),
    (nn.Conv2d(4, 4, (3, 5), padding=2), (4, 9, 9)),
    (nn.Conv1d(4, 4, 5, padding="same", padding_mode="reflect", dilation=2), (4, 19)),
    (nn.Conv3d(2, 2, 3), (2, 5, 5, 5)),
    (nn.Linear(6, 6), (6,)),
]


@pytest.mark.parametrize(("layer", "shape"), IDENTITIES, ids=str)
def test_identity_adds_the_input_in_every_mode(layer, shape):
    torch.manual_seed(0)
    layer, x = deepcopy(layer).double(), torch.randn(2, *shape, dtype=torch.float64)
    options = {"conv": "cl", "linear": True, "rate": 2}
    torch.manual_seed(1)
    unit = expand.expand(layer, identity=True, **options)
    torch.manual_seed(1)
    plain = expand.expand(layer, **options)
    dirac = torch.zeros_like(layer.weight)
    if dirac.dim() == 2:
        dirac = torch.eye(6, dtype=torch.float64)
    else:
        nn.init.dirac_(dirac, layer.groups)
    assert relative_error(unit.weight, plain.weight + dirac) < 1e-14
    folded = unit(x)
    expand.set_mode(unit, "unfolded")
    assert relative_error(unit(x), folded) < 1e-13
    assert relative_error(expand.compress(unit)(x), folded) < 1e-13
    kept = expand.expand(layer, identity=True, init="preserve", **options)
    assert relative_error(kept(x), layer(x)) < 1e-12
    assert expand.ExpandNet(identity=True, **options).plan(layer).rows[0].identity == "yes"


def test_a_layer_without_identity_has_a_reason():
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 4), nn.Conv2d(8, 8, 3))
    plan = expand.plan(network, "cl", identity=True, input_shape=(8, 4, 12, 12))
    assert [row.identity for row in plan] == [
        "4 inputs, 8 outputs", "a kernel of 4x4 has no centre", "yes"]  # fmt: skip
    assert "8; no identity: a kernel of 4x4 has no centre" in str(plan)
    assert "8 + identity" in str(plan)
    plain = expand.plan(network, "cl", input_shape=(8, 4, 12, 12))
    assert plan.rows[2].cost.unfolded == plain.rows[2].cost.unfolded + plain.rows[2].cost.compact
    assert plan.rows[0].cost == plain.rows[0].cost
    chosen = expand.plan(network, "cl", overrides={"2": {"identity": True}})
    assert [row.identity for row in chosen] == ["", "", "yes"]
    with pytest.raises(ValueError, match="identity: 'yes' is not one of True, False"):
        expand.plan(network, "cl", identity="yes")
