"""The mean of several teachers' probabilities, and the student's moving average."""

import numpy as np
import pytest
import torch
from torch import nn

from kdx.models.average import ema
from kdx.models.ensemble import TeacherMean, Watched
from kdx.protocols import Outputs


def logits(*shape):
    return torch.randn(shape, dtype=torch.float32)


@pytest.fixture
def outputs():
    torch.manual_seed(0)
    return {name: Outputs(logits(3, 5) * 4, {"layer": logits(3, 2)}) for name in "abc"}


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("shares", [{"a": 1, "b": 1}, {"c": 3, "a": 1, "b": 0.5}])
def test_the_softmax_of_the_mean_is_the_mean_of_the_softmaxes(outputs, shares, temperature):
    mean = TeacherMean(outputs, shares, at=temperature).logits.double().numpy() / temperature
    total = sum(shares.values())
    for row in range(3):
        expected = np.zeros(5)
        for name, share in shares.items():
            powers = np.exp(outputs[name].logits[row].double().numpy() / temperature)
            expected += share / total * powers / powers.sum()
        found = np.exp(mean[row]) / np.exp(mean[row]).sum()
        assert found == pytest.approx(expected, rel=1e-5)


def test_teachers_that_agree_have_the_same_mean(outputs):
    same = {"a": outputs["a"], "b": outputs["a"]}
    mean = TeacherMean(same, {"a": 1, "b": 1}, at=2.0).logits
    torch.testing.assert_close(mean.softmax(1), outputs["a"].logits.softmax(1))


def test_extreme_logits_stay_finite():
    far = {"a": Outputs(torch.tensor([[1e4, -1e4]])), "b": Outputs(torch.tensor([[-1e4, 1e4]]))}
    mean = TeacherMean(far, {"a": 1, "b": 3}, at=1.0).logits
    assert mean.softmax(1).tolist() == [[pytest.approx(0.25), pytest.approx(0.75)]]
    half = {name: Outputs(each.logits.half()) for name, each in far.items()}
    assert TeacherMean(half, {"a": 1, "b": 1}, at=1.0).logits.dtype == torch.float32


def test_of_pixels_too():
    maps = {name: Outputs(logits(2, 3, 4, 4)) for name in "ab"}
    mean = TeacherMean(maps, {"a": 1, "b": 1}, at=1.0).logits
    expected = (maps["a"].logits.softmax(1) + maps["b"].logits.softmax(1)) / 2
    torch.testing.assert_close(mean.softmax(1), expected)


def test_what_has_no_mean_is_refused(outputs):
    shares = {"a": 1.0, "b": 1.0}
    with pytest.raises(ValueError, match=r"a layer is of one of them: name one, `teacher: a` \(of"):
        assert TeacherMean(outputs, shares, at=1.0).features
    other = outputs | {"b": Outputs(logits(3, 5, 2, 2))}
    message = r"their logits differ in shape, \{'a': \[3, 5\], 'b': \[3, 5, 2, 2\]\}: name one"
    with pytest.raises(ValueError, match=message):
        assert TeacherMean(other, shares, at=1.0).logits is None
    with pytest.raises(ValueError, match=r"teachers: this loss has no mean of several: name one"):
        assert TeacherMean(outputs, shares, at=None).logits is None


def test_reading_is_noted(outputs):
    watched = Watched(outputs["a"])
    assert not watched.reads
    assert watched.features["layer"] is outputs["a"].features["layer"]
    assert watched.reads


def network(value, statistics):
    made = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(made[0].weight, value)
    made[1].running_mean.fill_(statistics)
    return made


def test_an_average_moves_by_one_minus_the_decay_and_faster_at_the_start():
    average = ema(network(7.0, 7.0), decay=0.5)
    expected = None
    for step, value in enumerate([1.0, 3.0, 2.0, 8.0, 4.0, 1.0, 0.0, 5.0, 6.0, 2.0, 3.0, 1.0]):
        now = network(value, 10 * value)
        now[1].num_batches_tracked += step
        average.update_parameters(now)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = value if step == 0 else kept * expected + (1 - kept) * value
        assert average.module[0].weight.item() == pytest.approx(expected, rel=1e-6)
        assert average.module[1].running_mean.item() == pytest.approx(10 * expected, rel=1e-6)
        assert average.module[1].num_batches_tracked == step
