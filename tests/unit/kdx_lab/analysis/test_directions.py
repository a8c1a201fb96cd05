from itertools import product
from math import isnan, sqrt

import pytest
import torch
from torch import nn

from kdx.models.students import smallnet
from kdx_lab.analysis.directions import directions, filter_normalised, half_width, moved


class Bowl(nn.Module):
    """0.5 x'Ax + b'x of a weight of three filters, beside a bias that does not count."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(3, dtype=torch.float64))
        root = torch.randn(12, 12, dtype=torch.float64)
        self.matrix, self.slope = root @ root.T, torch.randn(12, dtype=torch.float64)

    def loss(self, x):
        return (0.5 * x @ self.matrix @ x + self.slope @ x).item()

    def forward(self):
        return self.loss(self.weight.detach().flatten())


def test_along_a_direction_a_quadratic_bowl_is_the_parabola():
    bowl = Bowl()
    (way,) = directions(bowl, 1, seed=3)
    x, d = bowl.weight.detach().flatten().clone(), way[0].flatten()
    slope = d @ (bowl.matrix @ x + bowl.slope)
    with moved(bowl, [way]) as place:
        for at in (-1.0, -0.25, 0.0, 0.5, 1.0):
            place([at])
            parabola = bowl.loss(x) + at * slope + 0.5 * at**2 * (d @ bowl.matrix @ d)
            assert bowl() == pytest.approx(parabola.item(), rel=1e-12)


def test_over_a_plane_a_quadratic_bowl_is_the_closed_form():
    bowl = Bowl()
    ways = directions(bowl, 2, seed=3)
    x = bowl.weight.detach().flatten().clone()
    d, e = (way[0].flatten() for way in ways)
    with moved(bowl, ways) as place:
        for a, b in product((-1.0, 0.0, 0.5), repeat=2):
            place([a, b])
            assert bowl() == pytest.approx(bowl.loss(x + a * d + b * e), rel=1e-12)


def test_filters_of_a_direction_have_the_norms_of_the_networks():
    network = smallnet(kernel_size=3, num_classes=10, in_channels=3, image_size=32)
    first, second = directions(network, 2, seed=0)
    for parameter, a, b in zip(network.parameters(), first, second, strict=True):
        if parameter.dim() == 1:
            assert not a.any()
            continue
        norms = [t.flatten(1).norm(dim=1) for t in (parameter.detach(), a, b)]
        assert torch.allclose(norms[1], norms[0], rtol=1e-5)
        assert torch.allclose(norms[2], norms[0], rtol=1e-5)
        assert not torch.allclose(a, b)


def test_a_filter_of_zeros_is_not_moved():
    weight = torch.ones(2, 3)
    weight[1] = 0
    found = filter_normalised(torch.full((2, 3), 5.0), weight)
    assert torch.allclose(found, weight)


def test_networks_of_the_same_shapes_move_along_the_same_directions():
    torch.manual_seed(0)
    a, b = nn.Linear(4, 3), nn.Linear(4, 3)
    (one,), (other,) = directions(a, 1, seed=1), directions(b, 1, seed=1)
    unit = [way[0] / way[0].norm(dim=1, keepdim=True) for way in (one, other)]
    assert torch.allclose(*unit)
    assert not torch.allclose(unit[0], directions(a, 1, seed=2)[0][0])


def _fail_elsewhere(network, place):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    place([0.3])
    network.train()(torch.randn(4, 3, 32, 32))
    for name in ("conv1.weight", "bn1.running_mean"):
        assert not torch.equal(network.state_dict()[name], before[name])
    raise KeyError


def test_a_network_comes_back_to_the_bit_also_after_an_error():
    network = smallnet(kernel_size=3, num_classes=10, in_channels=3, image_size=32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(KeyError), moved(network, directions(network, 1, seed=0)) as place:
        _fail_elsewhere(network, place)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_half_width_is_where_the_loss_has_risen():
    at = [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert half_width(at, [4, 2, 1, 1, 3], 1.0) == pytest.approx((0.5 + 0.75) / 2)
    assert half_width(at, [float("inf"), 1, 1, 2, 9], 1.0) == pytest.approx(0.5)
    fine = [step / 100 for step in range(-100, 101)]
    assert half_width(fine, [4 * x**2 for x in fine], 1.0) == pytest.approx(sqrt(1 / 4), abs=1e-4)


@pytest.mark.parametrize("losses", [[1, 1, 1, 1, 1], [9, 5, 1, 1, 1], [1, 1, 1, 5, 9]])
def test_where_a_side_does_not_rise_so_far_there_is_no_half_width(losses):
    assert isnan(half_width([-1.0, -0.5, 0.0, 0.5, 1.0], losses, 1.0))
