"""Blocks of branches with BatchNorms: exact in the end, on any geometry, at the borders too."""

import pickle
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import expand
from expand.branch import ScaleNorm
from expand.costs import Cost
from tests.unit.expand.networks import SmallNet, parameters, relative_error, warm_up

BLOCKS = {name: getattr(expand, name) for name in ("RepVGG", "ACNet", "DBB", "MobileOne")}
each_block = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)


@pytest.mark.parametrize("bias", [True, False])
def test_dbb_is_the_papers_block(bias):
    """Written out with torch's own layers; 1x1-3x3 is padded with what its 1x1 makes of zero."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, padding=1, stride=2, bias=bias).double()
    layer = expand.DBB().apply(nn.Sequential(conv)).train()[0]
    images = torch.randn(5, 4, 9, 9, dtype=torch.float64)
    origin, point, inner, average = layer.factors.branches

    def norm(values, of):
        if not bias:
            return (
                values
                * of.weight.view(-1, 1, 1)
                / (values.var((0, 2, 3), correction=0) + of.eps).sqrt().view(-1, 1, 1)
            )
        return F.batch_norm(values, None, None, of.weight, of.bias, training=True, eps=of.eps)

    def padded(values, of):
        around = (
            of.bias - of.running_mean * of.weight / (of.running_var + of.eps).sqrt()
            if bias
            else values.new_zeros(values.shape[1])
        )
        whole = around.view(1, -1, 1, 1).expand(5, -1, 11, 11).clone()
        whole[:, :, 1:-1, 1:-1] = values
        return whole

    with torch.no_grad():
        found = layer(images)
        expected = norm(F.conv2d(images, origin.kernel.weight, stride=2, padding=1), origin.norm)
        expected += norm(F.conv2d(images, point.kernel.weight, stride=2), point.norm)
        assert torch.equal(inner.point.weight.flatten(1), torch.eye(4, dtype=torch.float64))
        first = norm(F.conv2d(images, inner.point.weight), inner.point_norm)
        expected += norm(
            F.conv2d(padded(first, inner.point_norm), inner.kernel.weight, stride=2), inner.norm
        )
        first = norm(F.conv2d(images, average.point.weight), average.point_norm)
        expected += norm(F.avg_pool2d(padded(first, average.point_norm), 3, 2), average.norm)
        if bias:
            expected += layer.factors.bias.view(-1, 1, 1)
    assert relative_error(found, expected) < 1e-12


def test_the_norm_of_a_layer_without_bias_is_batchnorm_before_another_batchnorm():
    torch.manual_seed(0)
    scale, whole, after = ScaleNorm(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    for _ in range(3):
        images = 3 + 2 * torch.randn(8, 4, 5, 5)
        assert torch.allclose(after(scale(images)), after(whole(images)), atol=1e-5)
    assert torch.allclose(scale.running_var, whole.running_var)
    scale.momentum = None
    scale.reset_running_stats()
    batches = [torch.randn(8, 4, 5, 5) for _ in range(4)]
    for batch in batches:
        scale(batch)
    mean = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
    assert torch.allclose(scale.running_var, mean)


def test_norms_that_cannot_be_folded_are_refused():
    student = expand.RepVGG().apply(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)))
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(student)
    with pytest.raises(TypeError, match=r"replaced by SyncBatchNorm, .* before it is expanded"):
        expand.compress(synchronised)


def test_which_branches_a_layer_has():
    network = nn.Sequential(
        nn.Conv2d(8, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 3, stride=2),
        nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 16, 1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    rows = {name: expand.__dict__[name]().plan(network).rows for name in BLOCKS}
    assert [row.branches for row in rows["RepVGG"]][:3] == [
        ("3x3", "1x1", "identity"), ("3x3", "1x1"), ("3x3", "1x1")]  # fmt: skip
    assert [row.without for row in rows["RepVGG"]][1:3] == [
        "identity: 8 inputs, 16 outputs", "identity: strided"]  # fmt: skip
    assert rows["ACNet"][0].branches == ("3x3", "1x3", "3x1")
    assert rows["DBB"][0].branches == ("3x3", "1x1", "1x1-3x3", "1x1-average")
    assert rows["DBB"][3].branches == ("3x3", "1x1-3x3", "average")
    assert rows["MobileOne"][0].branches == ("4 of 3x3", "1x1", "identity")
    assert rows["MobileOne"][4].branches == ("4 of 1x1", "identity")
    for name, reason in {"RepVGG": "its kernel is 1", "MobileOne": ""}.items():
        assert [row.reason for row in rows[name]][4:] == [reason, "not a convolution"]
    assert "one branch only: no rows and columns" in str(expand.ACNet().plan(nn.Conv1d(2, 2, 3)))


def kept_bytes(network: nn.Module, images: torch.Tensor) -> int:
    """Return what autograd really keeps of a training step, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in network.state_dict().values()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network.train()(images)
    assert output.requires_grad
    return sum(storage.nbytes() for place, storage in kept.items() if place not in own)


@each_block
def test_the_plan_says_what_a_training_step_keeps(block):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 8, 5, padding=1)
    )
    images = torch.randn(16, 4, 12, 12)
    before = torch.get_rng_state()
    plan = block(input_shape=images.shape).plan(network)
    assert torch.equal(torch.get_rng_state(), before), "a plan draws no random numbers"
    student = block().apply(network)
    more = kept_bytes(student, images) - kept_bytes(network, images)
    assert sum(row.kept for row in plan.rows) * 16 == pytest.approx(more, rel=0.02)
    for row in plan.rows:
        layer = student.get_submodule(row.path)
        assert row.parameters_after == sum(p.numel() for p in layer.parameters())


def test_the_plan_of_repvgg_by_hand():
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    (row,) = expand.RepVGG(input_shape=(8, 4, 6, 6)).plan(conv).rows
    assert row.cost == Cost(36 * 4 * 4 * 9, 36 * 4 * 4 * (9 + 1), None)
    planned = expand.DBB(input_shape=(8, 3, 32, 32)).plan(SmallNet(7))
    plan = str(planned)
    assert planned.cost.folded is None
    unfolded = sum(row.cost.unfolded for row in planned)
    assert planned.cost.unfolded == unfolded > planned.cost.compact
    lines = plan.splitlines()
    assert lines[-2].split()[-3:-1] == [f"{unfolded:,.0f}", "-"]
    assert {line.split()[-1] for line in lines[2:7]} == {"-"}
    assert "multiply-adds of a forward pass, and bytes more kept" in plan


def test_copies_and_pickles_run_the_same():
    torch.manual_seed(0)
    student = warm_up(expand.DBB().apply(SmallNet(3)), 4, 3, 32, 32)
    images = torch.randn(2, 3, 32, 32)
    for other in (deepcopy(student), pickle.loads(pickle.dumps(student))):
        assert torch.equal(other(images), student(images))
        assert len([*expand.units(other)]) == 3
    again = expand.DBB().apply(SmallNet(3))
    again.load_state_dict(student.state_dict())
    assert torch.equal(again.eval()(images), student(images))


@each_block
def test_reset_parameters_draws_again(block):
    torch.manual_seed(0)
    for bias in (True, False):
        student = warm_up(block().apply(nn.Sequential(nn.Conv2d(4, 4, 3, bias=bias))), 4, 4, 8, 8)
        before = student[0].weight.detach().clone()
        student[0].reset_parameters()
        assert 0.2 < student[0].weight.norm() / before.norm() < 5
        assert (student[0].weight != before).any()


def test_chains_may_stand_inside_of_branches():
    torch.manual_seed(0)
    images, network = torch.randn(2, 3, 32, 32), SmallNet(3)
    blocks, chains = (
        expand.RepVGG(),
        expand.ExpandNet("cl", select="features.*.factors.branches.0.kernel"),
    )
    student = warm_up(chains.apply(blocks.apply(network)), 4, 3, 32, 32)
    compact = blocks.restore(chains.restore(student))
    assert [*compact.state_dict()] == [*network.state_dict()]
    assert relative_error(compact.eval()(images), student(images)) < 1e-5


def test_layers_inside_of_branches_are_left_alone_unless_they_are_named():
    student = expand.DBB(select="features.0").apply(SmallNet(3))
    chains = expand.ExpandNet("cl", classifier="expand")
    assert not [row.path for row in chains.plan(student) if "factors" in row.path]
    inside = "features.0.factors.branches.0.kernel"
    for select in (inside, ["features.*", "*", "features.*.factors.*.0.kernel"]):
        rows = expand.ExpandNet("cl", select=select).plan(student).expanded
        assert [row.path for row in rows if "factors" in row.path] == [inside]
    chains = expand.ExpandNet("cl", select=inside)
    counts = parameters(student), parameters(chains.apply(student))
    assert chains.plan(student).parameters == counts
    alone = expand.DBB().apply(nn.Conv2d(2, 3, 3, stride=2))
    for select in ("*", "@strided"):
        with pytest.raises(ValueError, match="already expanded"):
            expand.ExpandNet("cl", select=select).apply(alone)
    (_, row) = expand.ExpandNet("cl", select="factors.branches.0.kernel").plan(alone).rows
    assert row.strategy == "cl"


def test_the_1x1_before_a_kernel_is_the_identity_when_it_is_drawn_again():
    unit = expand.DBB().apply(nn.Sequential(nn.Conv2d(4, 6, 3, groups=2)))[0]
    points = [branch.point for branch in unit.factors.branches if branch.point is not None]
    inner, average = points
    begins = inner.weight.detach().clone()
    unit.reset_parameters()
    images = torch.randn(2, 4, 5, 5)
    assert torch.equal(inner(images), images)
    assert torch.equal(inner.weight, begins)
    assert average.weight.shape == (6, 2, 1, 1)


def test_one_value_per_channel_has_no_variance():
    student = expand.RepVGG().apply(nn.Sequential(nn.Conv2d(2, 2, 3, bias=False)))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        student(torch.randn(1, 2, 3, 3))
    assert student.eval()(torch.randn(1, 2, 3, 3)).shape == (1, 2, 1, 1)
