"""Networks that run on their products as leaves: the factors get the gradients that they had."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import expand
from tests.unit.expand.networks import parameters
from tests.unit.expand.test_products import ReadsTwice, batch, folds, is_current, network

__all__ = ["folds"]  # a fixture


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    twice = nn.Conv2d(4, 4, 3, padding=1, groups=2)
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), twice, nn.ReLU(), twice,
        nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(64, 4),
    )  # fmt: skip


class LeavesOut(nn.Module):
    """A network with a layer that it does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.aside = network(), expand.expand(nn.Conv2d(2, 2, 3), "cl").double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)


def nested() -> nn.Module:
    branched = expand.DBB().apply(convolutions()[:1])
    return expand.expand(branched, "cl", select="0.factors.*").double()


def reads_twice() -> nn.Module:
    layer = nn.Sequential(nn.Flatten(), ReadsTwice(48, 4))
    return expand.expand(layer, None, linear=True, classifier="expand").double()


def frozen() -> nn.Module:
    model = network()
    model[0].factors[1].requires_grad_(False)
    model[3].factors.requires_grad_(False)
    return model


NETWORKS = {
    "chains": lambda: expand.expand(convolutions(), "auto", linear=True, rate=2).double(),
    "identity": lambda: expand.expand(convolutions(), "cl", identity=True, rate=2).double(),
    "OREPA": lambda: expand.OREPA().apply(convolutions()).double(),
    "DO-Conv": lambda: expand.DOConv().apply(convolutions()).double(),
    "branches with norms": lambda: expand.DBB().apply(convolutions()).double(),
    "chains in branches": nested,
    "a forward of its own": reads_twice,
    "frozen factors": frozen,
    "a unit that is not used": LeavesOut,
    "unfolded": lambda: expand.expand(convolutions(), "cl", mode="unfolded").double(),
    "one layer": lambda: expand.expand(nn.Conv2d(3, 4, 3), "cl").double(),
}


def parts() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [batch(), 2 * batch(), -batch()]


def gradients(model: nn.Module) -> list[torch.Tensor | None]:
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    return found


@pytest.mark.parametrize("case", NETWORKS)
def test_the_gradients_are_those_of_the_factors(case):
    model = NETWORKS[case]().train()
    twin = copy.deepcopy(model)
    leaves = expand.Leaves(twin)
    for _ in range(2):
        for x in parts():
            model(x).square().sum().backward()
        with leaves.held():
            for x in parts():
                twin(x).square().sum().backward()
    for one, two in zip(gradients(model), gradients(twin), strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-9)
    assert all(leaf.grad is None for leaf in leaves.parameters())


def test_parts_of_a_batch_share_one_product(folds):
    model = network()
    leaves = expand.Leaves(model)
    folds.clear()
    with leaves.held():
        for x in parts():
            model(x).sum().backward()
    assert len(folds) == 2


def test_they_follow_the_factors_and_have_the_compact_shapes():
    model, x = network(), batch()
    leaves, compact = expand.Leaves(model), expand.compress(model)
    assert [p.shape for p in leaves.parameters()] == [p.shape for p in compact.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        with leaves.held():
            assert is_current(model, x)
            model(x).square().sum().backward()
        optimizer.step()
    assert is_current(model, x)


def test_what_they_stand_for():
    model = nn.Sequential(*NETWORKS["chains"](), expand.DBB().apply(convolutions()[:1]))
    leaves = expand.Leaves(model)
    left = {name for name, _ in model.named_parameters()} - {*leaves.replaced}
    kept = ("7.", "8.")  # the classifier, and branches with norms
    assert left == {name for name, _ in model.named_parameters() if name.startswith(kept)}
    assert not expand.Leaves(NETWORKS["unfolded"]()).replaced
    one = expand.Leaves(model, paths=["0"])
    assert {name.split(".")[0] for name in one.replaced} == {"0"}
    assert parameters(one) == 5 * 5 * 3 * 4 + 4


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_pass_runs_on_them_both_times(reentrant, folds):
    model = network()
    expected = copy.deepcopy(model)
    x = batch().requires_grad_()
    expected(x).square().sum().backward()
    leaves = expand.Leaves(model)
    folds.clear()
    with leaves.held():
        checkpoint(model, x, use_reentrant=reentrant).square().sum().backward()
    assert len(folds) == 2
    for one, two in zip(gradients(expected), gradients(model), strict=True):
        torch.testing.assert_close(one, two)


def test_after_an_exception_the_factors_have_no_gradients():
    model = network()
    leaves = expand.Leaves(model)

    def interrupted() -> None:
        with leaves.held():
            model(batch()).sum().backward()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert gradients(model) == [None] * len([*model.parameters()])
    assert all(leaf.grad is None for leaf in leaves.parameters())
    assert not leaves.pairs
    model(batch()).sum().backward()
    assert None not in gradients(model)


def test_after_a_fold_that_fails_no_unit_runs_on_a_leaf():
    model, x = network(), batch()
    leaves = expand.Leaves(model)
    factor, model[3].factors[1] = model[3].factors[1], nn.Identity()
    with pytest.raises(TypeError, match="factor 1"), leaves.held():
        pass
    model[3].factors[1] = factor
    assert not leaves.pairs
    model(x).sum().backward()
    assert None not in gradients(model)


def test_they_are_trained_where_they_are_made_without_gradients():
    model = network()
    with torch.no_grad():
        leaves = expand.Leaves(model)
    with leaves.held():
        model(batch()).sum().backward()
    assert None not in gradients(model)


def test_a_unit_that_is_frozen_later_gets_no_gradients():
    model = network()
    leaves = expand.Leaves(model)
    model[3].requires_grad_(False)
    with leaves.held():
        model(batch()).sum().backward()
    for (name, _), gradient in zip(model.named_parameters(), gradients(model), strict=True):
        assert (gradient is None) == name.startswith("3."), name


@pytest.mark.parametrize("same", [True, False])
def test_a_unit_has_one_leaf_at_a_time(same):
    model, x = network(), batch()
    leaves = expand.Leaves(model)
    inner = leaves if same else expand.Leaves(model, paths=["0"])
    expected = copy.deepcopy(model)
    expected(x).sum().backward()
    with leaves.held():
        model(x).sum().backward()
        with pytest.raises(RuntimeError, match="already"), inner.held():
            pass
    for one, two in zip(gradients(expected), gradients(model), strict=True):
        torch.testing.assert_close(two, one)


def test_units_that_have_another_mode_since_are_refused():
    model = network()
    leaves = expand.Leaves(model)
    expand.set_mode(model, "unfolded")
    with pytest.raises(RuntimeError, match="mode has changed: make new leaves"):
        leaves.held().__enter__()


def test_a_copy_made_inside_runs_on_factors_of_its_own():
    model, x = network(), batch()
    leaves = expand.Leaves(model)
    with leaves.held():
        twin = copy.deepcopy(model)
        twin(x).sum().backward()
    assert gradients(model) == [None] * len([*model.parameters()])
    assert None not in gradients(twin)
