from copy import deepcopy
from functools import partial
from weakref import WeakSet

import pytest
import torch
from torch import nn

import expand
from kdx.models.certificate import certify
from kdx.models.students import smallnet
from tests.unit.expand.networks import warm_up


class Tolerance:
    float32 = 1e-4
    float64 = 1e-9


@pytest.fixture
def trained():
    torch.manual_seed(0)
    return warm_up(expand.expand(smallnet(), "cl", linear=True), 16, 3, 32, 32)


@pytest.fixture
def batches():
    torch.manual_seed(1)
    return [torch.randn(8, 3, 32, 32), torch.randn(5, 3, 32, 32)]


def shifted(network, *, by):
    """Restore with every logit off by `by`."""
    compact = expand.compress(network)
    with torch.no_grad():
        compact.fc2.bias.add_(by)
    return compact


def test_it_holds_for_expandnets(trained, batches):
    metrics = {"trained": {"top1": 0.5}, "compact": {"top1": 0.5}}
    certificate = certify(trained, expand.compress, batches, Tolerance(), metrics=metrics)
    assert certificate.problems == []
    assert str(certificate).startswith("holds: compact and trained network differ by ")
    assert 0 < certificate.float32.max_rel_error < 1e-5
    assert certificate.float64.max_rel_error < 1e-13
    assert (certificate.float32.images, certificate.float64.images) == (13, 8)
    assert certificate.predictions_changed == 0
    compact = sum(p.numel() for p in smallnet().parameters())
    assert certificate.parameters["compact"] == compact == 15050
    assert certificate.parameters["trained"] > compact
    written = certificate.to_json()
    assert written["holds"] is True
    assert written["metrics"] == metrics
    assert written["float64"]["tolerance"] == 1e-9


class InFloat32(nn.Module):
    """A network that weights its features by a softmax in float32, whatever it runs in."""

    def __init__(self):
        super().__init__()
        self.features, self.fc = smallnet(), nn.Linear(10, 10)

    def forward(self, x):
        return self.fc(self.features(x).softmax(1, dtype=torch.float32))


def test_a_network_that_sets_a_dtype_is_compared_in_float32_alone(batches):
    expanded = expand.expand(InFloat32())
    certificate = certify(expanded, expand.compress, batches)
    assert certificate.problems == []
    assert certificate.float64 is None
    assert certificate.difference.endswith(" (float32) of the largest logit")
    assert certificate.to_json()["float64"] is None
    with pytest.raises(RuntimeError, match="channels"):
        certify(expanded, expand.compress, [torch.randn(2, 4, 32, 32)])


def test_more_batches_in_float64(trained, batches):
    certificate = certify(trained, expand.compress, batches, Tolerance(), in_float64=2)
    assert certificate.float64.images == 13


def test_it_measures_the_largest_error_and_its_share(trained, batches):
    largest = max(trained(images).abs().max().item() for images in batches)
    certificate = certify(trained, partial(shifted, by=0.01 * largest), batches, Tolerance())
    assert certificate.float32.max_abs_error == pytest.approx(0.01 * largest, rel=1e-3)
    assert certificate.float32.max_rel_error == pytest.approx(0.01, rel=1e-3)
    differs = "compact and trained network differ in"
    share = "the largest error is 0.01 of the largest logit, the tolerance"
    assert certificate.problems == [
        f"{differs} float32: {share} 0.0001",
        f"{differs} float64: {share} 1e-09",
    ]
    assert certificate.to_json()["holds"] is False


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_never_holds(trained, batches, value):
    certificate = certify(trained, partial(shifted, by=value), batches, Tolerance())
    assert [p.split(":")[0].split()[-1] for p in certificate.problems[:2]] == [
        "float32", "float64",
    ]  # fmt: skip
    with torch.no_grad():
        trained.fc2.bias.fill_(value)
    assert len(certify(trained, expand.compress, batches, Tolerance()).problems) >= 2


def test_predictions_that_change_are_counted(trained, batches):
    def turned(network):
        compact = expand.compress(network)
        with torch.no_grad():
            for parameter in compact.fc2.parameters():
                parameter.copy_(parameter.roll(1, 0))
        return compact

    certificate = certify(trained, turned, batches, Tolerance())
    assert certificate.predictions_changed == 13
    changed = "compact and trained network differ in predictions: 13 of 13 changed, at most 1 may"
    assert certificate.problems[-1] == changed
    assert str(certificate) == f"does not hold: {'; '.join(certificate.problems)}"


@pytest.mark.parametrize("masked", [[3], [0, 1, 2, 3, 4, 5, 6], [*range(9)]])
@pytest.mark.parametrize("value", [-1e9, 1e9, -1e4])
def test_masked_classes_do_not_set_the_scale_of_the_others(trained, batches, masked, value):
    with torch.no_grad():
        trained.fc2.bias[masked] = value
    assert certify(trained, expand.compress, batches, Tolerance()).problems == []

    def off(network):
        compact = expand.compress(network)
        with torch.no_grad():
            compact.fc2.bias[9] += 0.5
        return compact

    certificate = certify(trained, off, batches, Tolerance())
    assert [p.split(":")[0].split()[-1] for p in certificate.problems[:2]] == [
        "float32", "float64",
    ]  # fmt: skip
    assert certificate.float32.max_rel_error > 0.001


def test_one_image_of_large_logits_does_not_set_the_scale_of_the_others(trained, batches):
    batches[0][0] *= 1e6
    certificate = certify(trained, expand.compress, batches, Tolerance())
    assert certificate.problems == []
    certificate = certify(trained, partial(shifted, by=0.05), batches, Tolerance())
    assert len(certificate.problems) == 2


def test_classes_that_play_no_part_may_be_rounded(trained, batches):
    """A class at nearly zero: its rounding is that of the others."""

    def off(network):
        compact = expand.compress(network)
        with torch.no_grad():
            compact.fc2.bias[:9] += 1e-7
        return compact

    with torch.no_grad():
        trained.fc2.weight[:9] *= 1e-6
        trained.fc2.bias[:9] = 1e-9
        trained.fc2.weight[9] *= 100
    exact = Tolerance()
    exact.float64 = 1e-4
    assert certify(trained, off, batches, exact).problems == []


def test_what_is_exported_is_certified(trained, batches):
    wrong = shifted(trained, by=0.5)
    problems = certify(trained, expand.compress, batches, Tolerance(), exported=wrong).problems
    assert "differ in float32" in problems[0]
    assert problems[1] == (
        "restoring is not repeatable: fc2.bias differed at the second call, of the same network"
    )
    exported = expand.compress(trained)
    certificate = certify(trained, expand.compress, batches, Tolerance(), exported=exported)
    assert certificate.problems == []


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_restore_that_differs_from_call_to_call_never_holds(trained, batches, wrong):
    calls = iter(range(3))

    def restored(network):
        return shifted(network, by=0.5 if next(calls) == wrong else 0)

    assert certify(trained, restored, batches, Tolerance()).problems


def test_metrics_of_all_images_are_judged(trained, batches):
    metrics = {"trained": {"top1": 0.5, "loss": 1.0}, "compact": {"top1": 0.4, "loss": 1.00001}}
    given = {"metrics": metrics, "metric_tolerances": {"top1": 0.01, "loss": 1e-4}}
    assert certify(trained, expand.compress, batches, Tolerance(), **given).problems == [
        "compact and trained network differ in top1 of all images: 0.5 trained, 0.4 compact, "
        "the tolerance 0.01"
    ]
    metrics["compact"]["top1"] = metrics["trained"]["top1"] = torch.nan
    assert certify(trained, expand.compress, batches, Tolerance(), **given).problems == []


def test_an_error_in_float64_alone_is_found(trained, batches):
    def through_float32(network):
        dtype = next(network.parameters()).dtype
        return expand.compress(deepcopy(network).float()).to(dtype)

    certificate = certify(trained, through_float32, batches, Tolerance())
    assert [p for p in certificate.problems if "float32" in p] == []
    assert len(certificate.problems) == 1


def test_zero_logits_are_compared_plainly(trained, batches):
    with torch.no_grad():
        for parameter in trained.fc2.parameters():
            parameter.zero_()
    certificate = certify(trained, partial(shifted, by=0.5), batches, Tolerance())
    assert certificate.float32.max_rel_error == certificate.float32.max_abs_error == 0.5
    assert certify(trained, expand.compress, batches, Tolerance()).problems == []


def test_the_trained_network_is_left_alone(trained, batches):
    trained.train()
    before = deepcopy(trained.state_dict())

    def spoils(network: nn.Module) -> nn.Module:
        compact = expand.compress(network)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
        return compact

    certificate = certify(trained, spoils, batches, Tolerance())
    assert certificate.problems  # a restore that spoils its argument does not hold either
    assert trained.training
    after = trained.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert {v.dtype for v in after.values()} == {torch.float32, torch.int64}


def test_the_logits_of_a_batch_are_not_kept(trained):
    """Those of pixels are gigabytes."""
    alive, before = WeakSet(), []

    def restored(network: nn.Module) -> nn.Module:
        compact = expand.compress(network)
        compact.register_forward_hook(follow)
        return compact

    def follow(network: nn.Module, images: object, logits: torch.Tensor) -> None:
        before.append(len(alive))
        alive.add(logits)

    certify(trained, restored, [torch.randn(2, 3, 32, 32) for _ in range(6)], Tolerance())
    assert len(before) == 7
    assert max(before) == 0
