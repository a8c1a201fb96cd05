"""Units under what torch does to modules: export, functional calls, vmap, other types."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

import expand
from tests.unit.expand.networks import relative_error


@pytest.fixture
def expanded() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2, padding=1, padding_mode="reflect"),
        nn.Flatten(),
        nn.Linear(4 * 64, 3),
    )
    return expand.expand(model, "auto", linear=True, classifier="expand", rate=2)


def test_export_traces_an_expanded_network(expanded):
    x = torch.randn(2, 3, 8, 8)
    exported = torch.export.export(expanded.eval(), (x,))
    assert relative_error(exported.module()(x), expanded(x)) < 1e-6


def test_a_functional_call_takes_other_factors(expanded):
    x = torch.randn(2, 3, 8, 8)
    doubled = {name: 2 * p for name, p in expanded.named_parameters() if name.startswith("4.")}
    biases = {n: p for n, p in doubled.items() if n.endswith("bias")}
    weights = {n: p for n, p in doubled.items() if n.endswith("weight")}
    with torch.no_grad():
        plain = functional_call(expanded, {n: torch.zeros_like(p) for n, p in biases.items()}, x)
        zeros = {n: torch.zeros_like(p) for n, p in biases.items()}
        assert relative_error(functional_call(expanded, weights | zeros, x), 8 * plain) < 1e-5


def test_gradients_per_sample_and_ensembles(expanded):
    x = torch.randn(5, 3, 8, 8)
    parameters = {name: p.detach() for name, p in expanded.named_parameters()}

    def loss(parameters, sample):
        return functional_call(expanded, parameters, sample[None]).square().sum()

    per_sample = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    whole = torch.autograd.grad(expanded(x).square().sum(), list(expanded.parameters()))
    for each, total in zip(per_sample.values(), whole, strict=True):
        assert relative_error(each.sum(0), total) < 1e-4
    stacked, _ = stack_module_state([expanded, expanded])
    outputs = vmap(lambda p: functional_call(expanded, p, x))(stacked)
    assert relative_error(outputs[1], expanded(x)) < 1e-5


def test_hooks_stay_on_the_layer(expanded):
    seen = []
    expanded[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    y = torch.randn(2, 3, 8, 8)
    expanded(y)
    expand.compress(expanded)(y)
    assert relative_error(seen[0], seen[1]) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_moves_to_another_type(expanded, dtype):
    moved = expanded.to(dtype)
    x = torch.randn(2, 3, 8, 8, dtype=dtype)
    assert moved(x).dtype == dtype
    assert expand.compress(moved)[0].weight.dtype == dtype


def test_attention_reads_the_weight_of_its_expanded_projection():
    """MultiheadAttention never calls `out_proj`: it reads its weight and bias."""
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0).eval()
    expanded = expand.expand(model, None, linear=True, classifier="expand")
    assert "self_attn.out_proj" in dict(expand.units(expanded))
    x = torch.randn(2, 5, 16)
    assert relative_error(expand.compress(expanded)(x), expanded(x)) < 1e-5


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # made of the padding
def test_torchs_transformer_is_nonlinear_in_eval_mode_too():
    """Its fast path would read weights and call no layer."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0)
    expanded = expand.expand(nn.TransformerEncoder(layer, 2), None, linear=True, mode="nonlinear")
    x, padding = torch.randn(2, 5, 16), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])

    @torch.no_grad()
    def output():
        return expanded(x, src_key_padding_mask=padding)[~padding]

    trained = output()
    expanded.eval()
    evaluated = output()
    expand.set_mode(expanded, "folded")
    linear = output()
    torch.testing.assert_close(trained, evaluated)
    assert (linear - evaluated).abs().max() > 1e-3
    assert not any(each._forward_pre_hooks for each in expanded.modules())


def test_a_compressed_layer_has_no_hook_of_the_nonlinear_mode():
    branches = expand.OREPA().apply(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)))
    expand.set_mode(branches, "nonlinear")
    assert not any(each._forward_pre_hooks for each in branches.modules())
    chain = expand.expand(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)), None, linear=True)
    expand.set_mode(chain, "nonlinear")
    assert sum(len(each._forward_pre_hooks) for each in chain.modules()) == 1
    expand.set_mode(chain, "unfolded")
    assert not any(each._forward_pre_hooks for each in expand.compress(chain).modules())
