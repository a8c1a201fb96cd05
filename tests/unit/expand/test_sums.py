"""OREPA and DO-Conv: linear sums that run as one kernel."""

import pickle
from copy import deepcopy
from functools import partial
from math import cos, pi

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import expand
from expand.costs import Cost
from tests.unit.expand.networks import SmallNet, relative_error, warm_up

SUMS = {"OREPA": expand.OREPA, "DOConv": expand.DOConv}
each_sum = pytest.mark.parametrize("kind", SUMS.values(), ids=SUMS)


def moved(transform, layer: nn.Module) -> nn.Module:
    """Return the layer rewritten, in float64, with other values everywhere."""
    torch.manual_seed(0)
    unit = transform.apply(layer.double())
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return unit


def prior(outputs: int, rows: int, columns: int) -> torch.Tensor:
    """The authors' `fre_init`, on kernels of any size: half of the channels along each side."""
    half = -(-outputs // 2)
    values = torch.zeros(outputs, rows, columns, dtype=torch.float64)
    for o in range(outputs):
        for h in range(rows):
            for w in range(columns):
                first = cos(pi * (h + 0.5) * (o + 1) / rows)
                second = cos(pi * (w + 0.5) * (o + 1 - half) / columns)
                values[o, h, w] = first if o < half else second
    return values


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_orepa_is_the_papers_sum_of_convolutions(groups):
    """Its branches one by one, on an input that is padded beforehand."""
    conv = nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2), groups=groups)
    unit = moved(expand.OREPA(), conv)
    f, x = unit.factors, torch.randn(2, 4, 9, 10, dtype=torch.float64)
    padded = F.pad(x, (2, 2, 1, 1))
    run = partial(F.conv2d, groups=groups)
    points = [f.points.weight[..., n, None, None] for n in range(3)]
    eye = torch.eye(4 // groups, dtype=torch.float64).repeat(groups, 1)
    depthwise = f.depthwise.weight.transpose(1, 2).reshape(32, 1, 3, 5)
    pointwise = f.pointwise.weight.reshape(groups, 4 // groups, 8, 8 // groups)
    pointwise = pointwise.permute(0, 3, 1, 2).reshape(8, 32 // groups, 1, 1)
    branches = [
        run(padded, f.origin.weight.reshape(8, -1, 3, 5), stride=2),
        F.avg_pool2d(run(padded, points[0]), (3, 5), 2),
        run(padded, points[1] * prior(8, 3, 5)[:, None], stride=2),
        run(x, points[2], stride=2),
        run(
            run(padded, (eye + f.inner.weight)[..., None, None]),
            f.outer.weight.reshape(8, -1, 3, 5),
            stride=2,
        ),
        run(F.conv2d(padded, depthwise, stride=2, groups=4), pointwise),
    ]
    expected = sum(v.view(-1, 1, 1) * b for v, b in zip(f.scale.weight, branches, strict=True))
    assert relative_error(unit(x), expected + f.bias.view(-1, 1, 1)) < 1e-13


def test_all_of_orepa_learns_when_it_starts_as_a_trained_layer():
    torch.manual_seed(0)
    unit = expand.OREPA(init="preserve").apply(nn.Conv2d(4, 8, 3))
    before = {name: p.detach().clone() for name, p in unit.named_parameters()}
    rate, images, target = 0.1, torch.randn(8, 4, 6, 6), torch.randn(8, 8, 4, 4)
    for _ in range(3):
        F.mse_loss(unit(images), target).backward()
        with torch.no_grad():
            for parameter in unit.parameters():
                parameter -= rate * parameter.grad
                parameter.grad = None
    for name, parameter in unit.named_parameters():
        changed = parameter != before[name]
        assert changed.flatten(1).any(1).all() if name.endswith("scale.weight") else changed.any()
    assert (
        (unit.factors.points.weight != before["factors.points.weight"]).flatten(0, 1).any(0).all()
    )


def test_orepa_starts_as_the_authors_do():
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3)
    f = expand.OREPA().apply(layer).factors
    assert f.scale.weight[:, 0].tolist() == [0.25, 0.25, 0, 1, 0.5, 0.5]
    assert not f.inner.weight.any()
    fans = {"origin": 576, "outer": 576, "points": 64, "depthwise": 9, "pointwise": 512}
    for name, fan in fans.items():  # He et al. (2015): variance 2 / fan-in
        values = getattr(f, name).weight
        assert values.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.05), name
    assert torch.equal(f.bias, layer.bias)


def rms(weight: torch.Tensor) -> float:
    return weight.detach().square().mean().sqrt().item()


def test_scaled_is_as_large_as_the_layer_where_the_default_is_several_times_as_large():
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3)
    default, scaled = (expand.OREPA(init=i).apply(layer).weight for i in ("default", "scaled"))
    # 2/I of the 1x1, 1/I of the depthwise, 1/2I of the chain, 1/8I of the origin, to 1/3I: 3.3
    assert 3 < rms(default) / rms(layer.weight) < 3.6
    assert rms(scaled) == pytest.approx(rms(layer.weight), rel=1e-5)
    with torch.no_grad():
        layer.weight.zero_()
    assert rms(expand.OREPA(init="scaled").apply(layer).weight) > 0


def test_preserved_branches_all_learn():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3)
    unit = expand.OREPA(init="preserve").apply(layer)
    assert torch.equal(unit.weight, layer.weight)
    optimizer = torch.optim.SGD(unit.parameters(), lr=0.1)
    before = {name: p.detach().clone() for name, p in unit.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        unit(torch.randn(2, 4, 8, 8)).square().sum().backward()
        optimizer.step()
    assert all((p != before[name]).any() for name, p in unit.named_parameters())


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_doconv_is_the_papers_composition(groups):
    conv = nn.Conv2d(4, 8, (2, 3), padding=1, groups=groups, bias=False)
    unit = moved(expand.DOConv(), conv)
    d, kernel = unit.factors.depthwise.weight, unit.factors.kernel.weight
    width = 4 // groups
    expected = torch.zeros(8, width, 6, dtype=torch.float64)
    for o in range(8):
        for i in range(width):
            channel = o // (8 // groups) * width + i
            whole = d[channel] + torch.eye(6)
            expected[o, i] = whole @ kernel[channel, :, o % (8 // groups)]
    assert relative_error(unit.weight.flatten(2), expected) < 1e-14


def test_doconv_starts_as_the_layer_and_learns_its_depthwise_kernels():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    unit = expand.DOConv().apply(layer)
    assert torch.equal(unit.weight, layer.weight)
    unit.weight.sum().backward()
    assert unit.factors.depthwise.weight.grad.any()


@each_sum
def test_copies_pickles_and_halves_are_the_same(kind):
    torch.manual_seed(0)
    student = warm_up(kind().apply(SmallNet(3)), 4, 3, 32, 32)
    x = torch.randn(2, 3, 32, 32)
    for other in (deepcopy(student), pickle.loads(pickle.dumps(student))):
        assert torch.equal(other(x), student(x))
    unit = student.features[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(unit.weight, student.features[0].weight)
        assert unit.weight.dtype == torch.float32
        assert unit(x).dtype == torch.bfloat16
    assert student.bfloat16().features[0].weight.dtype == torch.bfloat16
    compiled = torch.compile(student.float(), backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), student(x))


@each_sum
def test_products_and_hold_are_those_of_its_units(kind):
    torch.manual_seed(0)
    chains, sums = expand.ExpandNet("none", linear=True), kind(select="features.*")
    student = sums.apply(chains.apply(SmallNet(3)))
    found = sums.products(student)
    names = {f"features.{n}.{end}" for n in (0, 4, 8) for end in ("weight", "bias")}
    assert found.keys() == names
    assert all(p.requires_grad for p in found.values())
    first = student.features[0]
    with sums.hold(student):
        assert first.weight is first.weight
    assert first.weight is not first.weight
    x, student = torch.randn(2, 3, 32, 32), student.eval()
    expand.set_mode(student, "unfolded")  # which sums have not
    compact = chains.restore(sums.restore(student))
    assert relative_error(compact(x), student(x)) < 1e-5


def test_reset_parameters_draws_again():
    torch.manual_seed(0)
    for kind in SUMS.values():
        unit = kind().apply(nn.Conv2d(8, 8, 3))
        before = unit.weight.detach().clone()
        unit.reset_parameters()
        assert 0.5 < rms(unit.weight) / rms(before) < 2
        assert (unit.weight != before).all()


@each_sum
def test_what_it_leaves_alone_has_a_reason(kind):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 4, 2), nn.Flatten(),
        nn.Linear(4, 2), expand.expand(nn.Conv2d(4, 4, 3), "cl"), nn.Conv2d(4, 4, 3),
        expand.RepVGG().apply(nn.Conv2d(4, 4, 3)),
    )  # fmt: skip
    plan = kind(exclude="6").plan(network)
    assert [row.reason for row in plan.rows] == [
        "", "its kernel is 1", "ConvTranspose2d is not supported", "not a convolution",
        "already expanded", "excluded", "already expanded",
    ]  # fmt: skip
    assert {path for path, _ in expand.units(kind(select="0").apply(network))} == {"0", "5", "7"}


def test_the_plan_counts_parameters_and_folding():
    network = SmallNet(7)
    before = torch.get_rng_state()
    plan = expand.OREPA(input_shape=(8, 3, 32, 32)).plan(network)
    assert torch.equal(torch.get_rng_state(), before)
    student = expand.OREPA().apply(network)
    for row in plan.rows[:3]:
        unit = student.get_submodule(row.path)
        assert row.parameters_after == sum(p.numel() for p in unit.parameters())
    spread, apart, chain = 8 * 3 * 49 * 3, 3 * 49 * 8 * 8, 8 * 49 * 3 * 3
    compact = 32 * 32 * 8 * 3 * 49
    assert plan.rows[0].cost == Cost(compact, None, compact + (spread + apart + chain) / 8)
    assert "7x7 + average + prior + 1x1 + 1x1-7x7 + depthwise-1x1" in str(plan)
