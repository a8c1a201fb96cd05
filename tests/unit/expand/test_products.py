"""When a unit multiplies its factors: never with old ones, and once where it is told so."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.fx import symbolic_trace
from torch.utils.checkpoint import checkpoint

import expand
from expand import factors
from tests.unit.expand.networks import relative_error


class ReadsTwice(nn.Linear):
    """A forward of its own, which reads the weight more than once, the last time checkpointed."""

    def forward(self, input):
        scale = self.weight.norm()
        return checkpoint(lambda x: nn.functional.linear(x, self.weight, self.bias), input,
                          use_reentrant=False) / scale  # fmt: skip


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    return expand.expand(model, "cl", linear=True, classifier="expand", rate=2).double()


def batch() -> torch.Tensor:
    return torch.randn(2, 3, 4, 4, dtype=torch.float64)


def is_current(model: nn.Module, x: torch.Tensor) -> bool:
    return relative_error(model(x), expand.compress(model)(x)) < 1e-12


@pytest.fixture
def folds(monkeypatch) -> list[int]:
    """A list that grows with every fold."""
    made: list[int] = []
    for name in ("fold", "fold_once"):
        original = getattr(factors, name)

        def counted(*args, original=original, **named):
            made.append(1)
            return original(*args, **named)

        monkeypatch.setattr(factors, name, counted)
    return made


def change_data(model, _):
    for parameter in model.parameters():
        parameter.data.mul_(1.5)


def step_fused(model, x):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, fused=True)
    model(x).square().sum().backward()
    optimizer.step()


def load(model, _):
    model.load_state_dict({k: 1.2 * v for k, v in model.state_dict().items()}, assign=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("change", [change_data, step_fused, load])
def test_changed_factors_are_seen_however_they_changed(change, grad, training):
    model, x = network().train(training), batch()
    for _ in range(3):
        with torch.set_grad_enabled(grad):
            assert is_current(model, x)
        change(model, x)
    with torch.set_grad_enabled(grad):
        assert is_current(model, x)


def test_hold_makes_each_product_once(folds):
    model, x = network(), batch()
    holding = expand.Hold(model)
    for grad in (False, True):
        with torch.set_grad_enabled(grad), holding:
            first = [model(x) for _ in range(3)]
            assert len(folds) == 2
        folds.clear()
        assert torch.equal(first[0], first[2])
    change_data(model, x)
    assert is_current(model, x)


def test_a_layer_that_runs_twice_in_a_held_pass_is_folded_once(folds):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=1).double()
    model = expand.expand(nn.Sequential(conv, nn.ReLU(), conv), "cl")
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    model(x).square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    folds.clear()
    with expand.Hold(model):
        y = model(x)
    y.square().sum().backward()
    assert len(folds) == 1
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        assert relative_error(parameter.grad, grad) < 1e-12


def test_two_forwards_then_two_backwards():
    model, x = network(), batch()
    losses = [model(x).sum(), model(2 * x).square().sum()]
    penalty = sum(unit.weight.square().sum() for _, unit in expand.units(model))
    for loss in (*losses, penalty):
        loss.backward()
    compact = expand.compress(model)
    assert all(p.grad is not None for p in model.parameters())
    assert relative_error(compact(x).sum(), losses[0]) < 1e-12


@pytest.mark.parametrize("hold", [True, False])
def test_checkpointed_gradients_are_right(hold):
    torch.manual_seed(0)
    twice = expand.expand(nn.Linear(4, 4), None, linear=True, classifier="expand").double()
    reads = expand.expand(ReadsTwice(4, 4), None, linear=True, classifier="expand").double()
    model = nn.Sequential(twice, nn.Tanh(), twice, reads)
    x = torch.randn(3, 4, dtype=torch.float64)
    model(x).square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    for reentrant in (False, True):
        model.zero_grad()
        y = x.clone().requires_grad_()
        holding = expand.Hold(model if hold else nn.Identity())
        with holding:
            loss = checkpoint(model, y, use_reentrant=reentrant).square().sum()
            loss = loss + checkpoint(model, y, use_reentrant=reentrant).square().sum()
        (loss / 2).backward()
        for parameter, grad in zip(model.parameters(), expected, strict=True):
            assert relative_error(parameter.grad, grad) < 1e-10


def test_a_subclass_finds_one_product_in_its_forward(folds):
    layer = ReadsTwice(4, 4, bias=False)
    unit = expand.expand(layer, None, linear=True, classifier="expand")
    unit(torch.randn(2, 4))
    assert len(folds) == 2  # one for the forward, one in the checkpoint, which must do it itself


def test_threads_do_not_see_each_others_products(monkeypatch):
    unit = expand.expand(ReadsTwice(4, 4), None, linear=True, classifier="expand")
    monkeypatch.setattr(ReadsTwice, "forward", lambda self, x: x @ self.weight.T)
    x, wrong = torch.randn(2, 4), []
    unit._product = lambda: (torch.zeros(4, 4, requires_grad=torch.is_grad_enabled()), None)

    def run(grad: bool) -> None:
        with torch.set_grad_enabled(grad):
            for _ in range(20_000):
                if unit(x).requires_grad != grad:
                    wrong.append(grad)

    threads = [threading.Thread(target=run, args=(grad,)) for grad in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_held_network_is_copied_without_its_products():
    model, x = network(), batch()
    with expand.Hold(model):
        model(x)
        twin = copy.deepcopy(model)
    change_data(twin, x)
    assert is_current(twin, x)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own use
def test_forward_mode_differentiation_follows_reverse_mode():
    unit, x = network()[0], batch()
    weight = unit.factors[0].weight
    tangent = torch.randn_like(weight)
    (grad,) = torch.autograd.grad(unit(x).sum(), [weight])
    expected = (grad * tangent).sum()
    with forward_ad.dual_level():
        dual = {"factors.0.weight": forward_ad.make_dual(weight.detach(), tangent)}
        total = torch.func.functional_call(unit, dual, x).sum()
        assert relative_error(forward_ad.unpack_dual(total).tangent, expected) < 1e-10


def test_torch_fx_takes_a_unit_for_a_layer():
    model, x = network(), batch()
    traced = symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes][1] == "0"
    assert torch.equal(traced(x), model(x))


@pytest.mark.parametrize("name", ["mode", "is_chain", "is_folded", "is_trained", "check_factors"])
def test_names_that_a_unit_needs_are_a_reason(name):
    layer = nn.Conv2d(3, 4, 3)
    setattr(layer, name, "double")
    (row,) = expand.plan(layer, "cl").rows
    assert row.reason == f"it has a {name!r} of its own, which an expanded layer needs"


def test_a_weight_that_the_layer_denies_is_a_reason():
    grey = nn.Conv2d(3, 4, 3)
    grey.weight = nn.Parameter(grey.weight.detach().sum(1, keepdim=True))
    (row,) = expand.plan(grey, "cl").rows
    assert row.reason == "its weight is [4, 1, 3, 3], not [4, 3, 3, 3] as the layer says"


def test_weights_in_one_place_are_shared():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight.data = model[0].weight.data
    reasons = {row.reason for row in expand.plan(model, linear=True, classifier="expand")}
    assert reasons == {"its weight is shared with another layer"}


def test_a_network_on_the_meta_device_is_compressed():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 4, 5))
    compact = expand.compress(expand.expand(model, "ck"))
    assert compact[0].weight.is_meta
    assert compact[0].weight.shape == (4, 3, 5, 5)
