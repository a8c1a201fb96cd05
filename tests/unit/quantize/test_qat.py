"""The transform: what a quantised network computes, where its ranges come from, and back again."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import expand
from kdx.models.students import smallnet
from quantize import QAT, QuantisedLayer, fake_input, fake_weight, layers

IMAGES = torch.linspace(-2, 3, 8 * 3 * 32 * 32).view(8, 3, 32, 32).sin()


def batches(network: nn.Module, count: int = 2) -> nn.Module:
    """Return the network in eval mode, after batches in train mode."""
    with torch.no_grad():
        for index in range(count):
            network.train()(IMAGES * (1 + index))
    return network.eval()


def pair() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, groups=1), nn.Flatten(), nn.Linear(900, 5))


def test_a_layer_computes_with_rounded_input_and_weight_in_train_and_in_eval_mode():
    network = pair()
    quantised = QAT().apply(network)
    conv, ends = network[0], torch.stack([IMAGES.amin().clamp(max=0), IMAGES.amax()])
    expected = F.conv2d(fake_input(IMAGES, ends), fake_weight(conv.weight), conv.bias, stride=2)
    assert torch.equal(quantised[0].train()(IMAGES), expected)
    assert torch.equal(quantised[0].eval()(IMAGES), expected)
    assert torch.equal(quantised[0].input_range, ends)
    assert not torch.equal(conv(IMAGES), expected)


@pytest.mark.parametrize("mode", ["folded", "unfolded"])
def test_an_expanded_layer_is_rounded_as_the_compact_layer_that_it_is(mode):
    torch.manual_seed(0)
    network = smallnet()
    expanded = expand.expand(network, "cl", linear=True, rate=2, mode=mode, init="scaled")
    quantised = QAT().apply(expanded).train()
    for path, inputs in (("conv1", IMAGES), ("fc1", IMAGES.flatten()[: 8 * 128].view(8, 128))):
        unit, compact = expanded.get_submodule(path), network.get_submodule(path)
        with torch.no_grad():  # the very product: a last bit may decide where a number goes
            compact.weight.copy_(unit.weight)
            compact.bias.copy_(unit.bias)
        found = quantised.get_submodule(path)(inputs)
        torch.testing.assert_close(found, QAT().apply(compact).train()(inputs), rtol=0, atol=1e-5)
        assert not torch.allclose(found, compact(inputs), rtol=0, atol=1e-4)
        found.square().sum().backward()
        assert all(f.weight.grad.any() for f in quantised.get_submodule(path).factors)
    assert [name for name, _ in layers(quantised)] == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    restored = QAT().restore(quantised)
    assert isinstance(restored.conv1, expand.ExpandedUnit)
    assert not isinstance(restored.conv1, QuantisedLayer)


def test_ranges_move_by_a_hundredth_in_train_mode_and_never_in_eval_mode():
    network = QAT().apply(nn.Linear(2, 2))
    for batch in ([1.0, 2.0], [-1.0, 4.0]):
        network.train()(torch.tensor([batch]))
    torch.testing.assert_close(network.input_range, torch.tensor([-0.01, 2.02]))
    network.train()(torch.tensor([[torch.inf, 0.0]]))
    network.eval()(torch.tensor([[9.0, 9.0]]))
    torch.testing.assert_close(network.input_range, torch.tensor([-0.01, 2.02]))


def test_a_network_that_has_seen_no_batch_runs_in_float():
    network = pair()
    assert torch.equal(QAT().apply(network).eval()(IMAGES), network.eval()(IMAGES))


def test_phases_turn_rounding_on_and_off_and_exact_is_float_for_a_while():
    network, qat = pair(), QAT(start="float")
    quantised = batches(qat.apply(network))
    expected = network.eval()(IMAGES)
    assert torch.equal(quantised(IMAGES), expected)
    assert qat.about(quantised) == {}
    qat.enter(quantised, "int8")
    rounded = batches(quantised)(IMAGES)
    assert not torch.equal(rounded, expected)
    with qat.exact(quantised):
        assert torch.equal(quantised(IMAGES), expected)
        assert torch.equal(copy.deepcopy(quantised)(IMAGES), expected)
    assert torch.equal(quantised(IMAGES), rounded)
    ranges = qat.about(quantised)["int8"]["input_ranges"]
    assert ranges == {path: layer.input_range.tolist() for path, layer in layers(quantised)}
    qat.enter(quantised, "float")
    assert torch.equal(quantised(IMAGES), expected)


def test_copies_and_pickles_are_quantised_too():
    torch.manual_seed(0)
    quantised = batches(QAT().apply(expand.expand(smallnet(), "cl")))
    for again in (copy.deepcopy(quantised), pickle.loads(pickle.dumps(quantised))):
        assert torch.equal(again(IMAGES), quantised(IMAGES))
        assert again.state_dict().keys() == quantised.state_dict().keys()
        assert QAT().restore(again).state_dict().keys() < quantised.state_dict().keys()


def test_compiled_it_is_one_graph_and_the_same_function():
    torch.compiler.reset()  # torch rounds sizes that it has seen change outside of the graph
    quantised = batches(QAT().apply(pair()))
    compiled = torch.compile(quantised, backend="eager", fullgraph=True)
    assert torch.equal(compiled(IMAGES), quantised(IMAGES))
    compiled.train()(2 * IMAGES)
    assert quantised[0].input_range[1] > IMAGES.amax()


def test_under_autocast_the_grids_are_those_of_float32():
    quantised = batches(QAT().apply(pair()))
    with torch.autocast("cpu", torch.bfloat16):
        found = quantised.train()(IMAGES)
    assert found.dtype == torch.bfloat16
    assert quantised[0].input_range.dtype == torch.float32
    torch.testing.assert_close(found.float(), quantised(IMAGES), rtol=0.02, atol=0.02)


class Own(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


def test_the_plan_says_what_stays_in_float_and_why():
    network = nn.Sequential(nn.Linear(4, 4), Own(4, 4), nn.Linear(4, 4))
    network.append(nn.MultiheadAttention(4, 1)).append(nn.LazyLinear(4))
    qat = QAT(exclude="2")
    assert qat.plan(network).splitlines() == [
        "0  int8",
        "1  Own has a forward of its own",
        "2  excluded",
        "3  its forward reads weights and calls no layers",
        "4  LazyLinear is not supported",
    ]
    quantised = qat.apply(network)
    assert [path for path, _ in layers(quantised)] == ["0"]
    with pytest.raises(ValueError, match=r"no layer to quantise: 0: already quantised; 1: Own has"):
        qat.apply(quantised)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": "int4"}, r"start: 'int4' is not one of float, int8"),
        ({"exclude": ["fc*", "head"]}, r"exclude: 'head' matches no layer. Layers: conv1, conv2"),
        ({"exclude": "*"}, r"SmallNet has no layer to quantise: conv1: excluded; conv2: excl"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        QAT(**arguments).apply(smallnet())


def test_a_nonlinear_layer_is_not_rounded():
    student = QAT().apply(expand.expand(smallnet(), mode="nonlinear"))
    with pytest.raises(ValueError, match=r"expanded nonlinearly cannot be .*start='float'"):
        student(torch.randn(2, 3, 32, 32))


def test_layers_with_branches_stay_in_float():
    plan = QAT().plan(expand.RepVGG(select="conv1").apply(smallnet()))
    assert plan.splitlines()[0] == "conv1  its branches have norms, which train on batches"
    assert plan.splitlines()[1] == "conv2  int8"


def test_layers_inside_of_torchs_transformer_are_rounded_in_eval_mode_too():
    """Its fast path would read their weights and call no layer."""
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    tokens = torch.randn(4, 5, 8)
    quantised = QAT().apply(block)
    quantised.train()(tokens)
    with torch.no_grad():
        rounded = quantised.eval()(tokens)
        with QAT().exact(quantised):
            exact = quantised(tokens)
    assert (rounded - exact).abs().max() > 1e-4
    torch.testing.assert_close(exact, block.eval()(tokens))
    assert not any(each._forward_pre_hooks for each in QAT().restore(quantised).modules())


def test_a_parametrised_student_stays_as_it_is_when_a_copy_is_restored():
    student = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    quantised = batches(QAT().apply(student))
    restored = QAT().restore(quantised)
    nn.utils.parametrize.remove_parametrizations(restored[0], "weight")
    assert torch.equal(quantised[0].weight, restored[0].weight)
