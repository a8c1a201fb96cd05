import copy
import warnings

import pytest
import torch
from torch import nn

import expand
from tests.unit.expand.networks import SmallNet, relative_error, warm_up

CASES = [
    (7, "cl", False), (7, "cl", True), (7, "ck", False), (7, "ck", True), (7, "none", True),
    (3, "cl", False), (3, "cl", True), (3, "none", True),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize(("kernel", "conv", "linear"), CASES)
def test_folded_unfolded_and_compressed_networks_agree(kernel, conv, linear, dtype, tolerance):
    torch.manual_seed(0)
    expanded = expand.expand(SmallNet(kernel).to(dtype), conv, linear=linear)
    warm_up(expanded, 32, 3, 32, 32)
    x = torch.randn(8, 3, 32, 32, dtype=dtype)
    folded = expanded(x)
    expand.set_mode(expanded, "unfolded")
    assert relative_error(expanded(x), folded) < tolerance
    assert relative_error(expand.compress(expanded)(x), folded) < tolerance


@pytest.mark.parametrize(("kernel", "conv", "linear"), CASES)
def test_training_folded_follows_training_unfolded(kernel, conv, linear):
    torch.manual_seed(0)
    folded = expand.expand(SmallNet(kernel).double(), conv, linear=linear)
    unfolded = copy.deepcopy(folded)
    expand.set_mode(unfolded, "unfolded")
    x, target = torch.randn(32, 3, 32, 32, dtype=torch.float64), torch.randint(10, (32,))
    for model in (folded, unfolded):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), target).backward()
            optimizer.step()
    for p, q in zip(folded.parameters(), unfolded.parameters(), strict=True):
        assert (p - q).abs().max() < 1e-9


def test_compress_gives_back_the_classes_and_the_state_dict_keys_in_order():
    model = SmallNet(7)
    compact = expand.compress(expand.expand(model, "ck", linear=True))
    assert [type(m) for m in compact.modules()] == [type(m) for m in model.modules()]
    assert [(k, v.shape, v.dtype) for k, v in compact.state_dict().items()] == [
        (k, v.shape, v.dtype) for k, v in model.state_dict().items()
    ]
    model.load_state_dict(compact.state_dict(), strict=True)


def test_products_are_the_compact_parameters_and_lead_to_the_factors():
    torch.manual_seed(0)
    convs, linears = expand.ExpandNet("cl"), expand.ExpandNet(None, linear=True)
    expanded = linears.apply(convs.apply(SmallNet(3).double()))
    compact = dict(expand.compress(expanded).named_parameters())
    found = convs.products(expanded), linears.products(expanded)
    assert not found[0].keys() & found[1].keys()
    paths = {path for path, _ in expand.units(expanded)}
    every = found[0] | found[1]
    assert every.keys() == {name for name in compact if name.rpartition(".")[0] in paths}
    for name, product in every.items():
        assert torch.allclose(product, compact[name], atol=1e-12)
    sum(product.sum() for product in every.values()).backward()
    assert all(p.grad is not None for _, unit in expand.units(expanded) for p in unit.parameters())


def test_expand_and_compress_leave_their_argument_alone():
    torch.manual_seed(0)
    model = SmallNet(3)
    before = copy.deepcopy(model.state_dict())
    expanded = expand.expand(model, "cl", linear=True)
    inside = copy.deepcopy(expanded.state_dict())
    expand.compress(expanded)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert list(expanded.state_dict()) == list(inside)
    assert [type(m) for m in model.modules()] == [type(m) for m in SmallNet(3).modules()]


def test_a_module_used_twice_stays_one():
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    expanded = expand.expand(model, "cl")
    assert expanded[0] is expanded[2]
    x = torch.randn(1, 4, 6, 6)
    compact = expand.compress(expanded)
    assert compact[0] is compact[2]
    assert relative_error(compact(x), expanded(x)) < 1e-6


def test_other_parameters_keep_their_values():
    torch.manual_seed(0)
    model = warm_up(SmallNet(7), 16, 3, 32, 32)
    expanded = expand.expand(model, "ck")
    for path in ("features.1.running_mean", "features.1.weight", "fc2.weight"):
        assert torch.equal(expanded.state_dict()[path], model.state_dict()[path])


def test_the_transform_runs_the_phases_of_the_papers_initialisation():
    torch.manual_seed(0)
    transform = expand.ExpandNet("ck", linear=True)
    student = transform.apply(SmallNet(7))
    x = torch.randn(4, 3, 32, 32)
    linear = student.eval()(x)
    transform.enter(student, "nonlinear")
    assert relative_error(student(x), linear) > 1e-3
    with pytest.raises(ValueError, match="nonlinear mode"):
        transform.restore(student)
    transform.enter(student, "linear")
    assert torch.equal(student(x), linear)
    assert relative_error(transform.restore(student)(x), linear) < 1e-5
    with pytest.raises(ValueError, match="phase: 'warm' is not one of nonlinear, linear"):
        transform.enter(student, "warm")


def test_what_cannot_be_expanded_is_refused():
    with pytest.raises(ValueError, match="ReLU has no linear layer to expand"):
        expand.expand(nn.ReLU())
    with pytest.raises(ValueError, match="CK needs a kernel above 3, not 3x3"):
        expand.expand(nn.Conv2d(3, 8, 3), "ck")
    with pytest.raises(ValueError, match="mode: 'flat' is not one of"):
        expand.expand(SmallNet(3), mode="flat")
    with pytest.raises(ValueError, match="SmallNet has no expanded layer to compress"):
        expand.compress(SmallNet(3))


def test_two_transforms_share_a_student_layer_by_layer():
    torch.manual_seed(0)
    convolutions, linears = expand.ExpandNet("ck"), expand.ExpandNet(None, linear=True)
    student = linears.apply(convolutions.apply(SmallNet(7))).eval()
    x = torch.randn(2, 3, 32, 32)
    linears.enter(student, "nonlinear")
    assert {path: unit.mode for path, unit in expand.units(student)}["features.0"] == "folded"
    linears.enter(student, "linear")
    compact = convolutions.restore(linears.restore(student))
    assert [type(m) for m in compact.modules()] == [type(m) for m in SmallNet(7).modules()]
    assert relative_error(compact(x), student(x)) < 1e-5


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_networks_that_keep_tensors_of_their_last_forward_are_copied(norm):
    torch.manual_seed(0)
    network = SmallNet(3)
    with warnings.catch_warnings(action="ignore"):
        getattr(nn.utils, norm)(network.fc2)
    expanded = expand.expand(network, "cl", linear=True)
    x = torch.randn(4, 3, 32, 32)
    expanded(x).sum().backward()
    expanded.eval()
    expanded.last = expanded(x)
    compact = expand.compress(expanded)
    assert compact.state_dict().keys() == network.state_dict().keys()
    assert torch.equal(compact.last, expanded.last)
    assert relative_error(compact(x), expanded.last) < 1e-5
    assert expanded.last.requires_grad
    assert not compact.last.requires_grad
