from math import erf, exp, pi, sqrt

import numpy as np
import pytest
import torch
from torch import nn

from kdx.losses import OFD
from kdx.losses.ofd import margins
from kdx.protocols import Outputs
from kdx.training.job import build
from tests.contracts import TARGET, check_loss, outputs

SHAPES = {"student": {"a": (4, 3, 4, 4)}, "teacher": {"b": (4, 6, 4, 4)}}
LAYERS = {"student_layer": "a", "teacher_layer": "b"}


class Activated(nn.BatchNorm2d):
    def __init__(self, act):
        super().__init__(6)
        self.act = act


def network():
    torch.manual_seed(0)
    block = nn.ModuleDict({"conv": nn.Conv2d(6, 6, 1), "bn": nn.BatchNorm2d(6), "relu": nn.ReLU()})
    layers = {"b": nn.BatchNorm2d(6), "block": block, "wide": nn.BatchNorm2d(8)}
    layers |= {"active": Activated(nn.ReLU()), "plain": Activated(nn.Identity())}
    for each in (layers["b"], block["bn"]):
        nn.init.normal_(each.weight)
        nn.init.normal_(each.bias)
    return nn.ModuleDict(layers).eval().requires_grad_(False)


NETWORK = network()


def loss(**given):
    return OFD(**{"teacher_network": NETWORK, **LAYERS} | given)


def test_contract():
    check_loss(loss, **SHAPES, largest=(1e15, 1e4))


def by_hand(mean, std):
    """The authors' code."""
    std = abs(std)
    share = (1 + erf(-mean / std / sqrt(2))) / 2
    if share > 0.001:
        return -std * exp(-((mean / std) ** 2) / 2) / sqrt(2 * pi) / share + mean
    return -3 * std


def test_margins():
    norm = nn.BatchNorm2d(7)
    means, stds = [0.0, 0.5, -2.0, 3.0, 3.2, 0.3, -0.3], [1.0, -0.7, 1.0, 1.0, 1.0, 0.0, 0.0]
    norm.weight.data, norm.bias.data = torch.tensor(stds), torch.tensor(means)
    found = margins(norm).tolist()
    expected = [by_hand(norm.bias[i].item(), norm.weight[i].item()) for i in range(5)]
    assert found[:5] == pytest.approx(expected, rel=1e-9)
    assert found[0] == pytest.approx(-sqrt(2 / pi))  # of N(0, 1)
    assert found[4] == -3
    assert found[5:] == pytest.approx([0, -0.3])  # constants
    assert margins(nn.BatchNorm2d(2, affine=False)).tolist() == pytest.approx([-sqrt(2 / pi)] * 2)


def test_against_loops_over_two_pairs():
    student = outputs({"a": (4, 3, 4, 4), "c": (4, 2, 3, 3)}, dtype=torch.float64)
    teacher = outputs({"b": (4, 6, 4, 4), "block.bn": (4, 6, 3, 3)}, seed=1, dtype=torch.float64)
    source, total = network(), 0.0
    term = OFD(layers=[["a", "b"], ["c", "block.bn"]], teacher_network=source)
    value = term(student, teacher, TARGET)
    for index, (own, path) in enumerate(term.pairs):
        s, t = student.features[own].detach().numpy(), teacher.features[path].detach().numpy()
        conv = (term.regressor_1 if index else term.regressor)[0].weight.detach().numpy()[..., 0, 0]
        mapped = np.einsum("oi,bihw->bohw", conv, s)
        mean, var = (f((0, 2, 3))[None, :, None, None] for f in (mapped.mean, mapped.var))
        mapped = (mapped - mean) / np.sqrt(var + 1e-5)
        norm = source.get_submodule(path)
        for b, c, h, w in np.ndindex(t.shape):
            x, y = mapped[b, c, h, w], max(t[b, c, h, w], by_hand(*channel(norm, c)))
            if not (x <= y and y <= 0):
                total += (x - y) ** 2 / 4 / (2 if index == 0 else 1)
    assert value.item() == pytest.approx(total, rel=1e-9)
    value.backward()
    assert teacher.features["b"].grad is None
    assert all(p.grad.any() for p in term.parameters())
    feature = student.features["a"]

    def moved(step):
        other = Outputs(student.logits, {**student.features, "a": feature + step})
        return term(other, teacher, TARGET).item()

    for place in [(0, 0, 0, 0), (2, 1, 3, 2)]:
        step = torch.zeros_like(feature)
        step[place] = 1e-6
        slope = (moved(step) - moved(-step)) / 2e-6
        assert feature.grad[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


def channel(norm, c):
    return norm.bias[c].item(), norm.weight[c].item()


def test_by_hand_where_both_are_negative():
    """Student -1 and 1; teacher -1/2 (twice): only the second counts. A margin of -0.798."""
    norm = nn.ModuleDict({"b": nn.BatchNorm2d(1)})
    own = Outputs(torch.zeros(2), {"a": torch.tensor([-5e3, 5e3]).view(2, 1, 1, 1)})
    for t, wanted in ((-0.5, 1.5**2), (-9.0, (1 + sqrt(2 / pi)) ** 2), (0.5, 1.5**2 + 0.5**2)):
        term = OFD(**LAYERS, teacher_network=norm)
        guide = Outputs(torch.zeros(2), {"b": torch.full((2, 1, 1, 1), t)})
        term(own, guide, TARGET)
        nn.init.ones_(term.regressor[0].weight)
        assert term(own, guide, TARGET).item() == pytest.approx(wanted / 2, rel=1e-5)


def test_the_state_comes_back_and_the_teacher_is_not_in_it():
    student, teacher = outputs(SHAPES["student"]), outputs(SHAPES["teacher"], seed=1)
    term, other = loss(), loss()
    value = term(student, teacher, TARGET)
    assert {name.split(".")[0] for name in term.state_dict()} == {"margin_0", "regressor"}
    other(student, teacher, TARGET)
    other.load_state_dict(term.state_dict())
    assert torch.equal(other(student, teacher, TARGET), value)


@pytest.mark.parametrize(
    ("layer", "near"),
    [
        ("block", "'block.bn'"),
        ("block.relu", "'block.bn'"),
        ("@stage1", "'plain'"),  # the last of six channels
        ("active", ".*"),
    ],
)
def test_layers_that_are_not_batch_norm_are_refused(layer, near):
    student, teacher = outputs({"a": (4, 3, 4, 4)}), outputs({layer: (4, 6, 4, 4)})
    message = rf"ofd: student 'a', teacher '{layer}': the teacher's '{layer}' is not a BatchNorm: "
    with pytest.raises(ValueError, match=rf"{message}name one, .* such as {near}$"):
        loss(teacher_layer=layer)(student, teacher, TARGET)


def test_batch_norm_is_found_with_a_call_and_without_an_activation():
    for layer in ("plain", "b:0", "b:bchw"):
        student, teacher = outputs({"a": (4, 3, 4, 4)}), outputs({layer: (4, 6, 4, 4)})
        assert loss(teacher_layer=layer)(student, teacher, TARGET).isfinite()


def test_a_teacher_without_batch_norm_is_refused():
    student, teacher = outputs(SHAPES["student"]), outputs(SHAPES["teacher"])
    with pytest.raises(ValueError, match="the teacher has no BatchNorm"):
        loss(teacher_network=nn.Sequential())(student, teacher, TARGET)
    with pytest.raises(ValueError, match="ofd needs a teacher"):
        loss(teacher_network=None)(student, None, TARGET)


def test_an_alias_is_refused_with_the_layer_to_use(recipe):
    teacher = "teacher={use: teachers.resnet18, allow_chance: true, stem: imagenet}"
    with pytest.raises(ValueError, match=r"'@stage4' is not a BatchNorm: .* as 'layer4\.1\.bn2'"):
        build(recipe(teacher, "losses=[{use: ofd, student_layer: bn2, teacher_layer: '@stage4'}]"))
