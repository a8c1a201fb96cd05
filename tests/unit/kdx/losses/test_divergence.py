from functools import partial
from math import inf, nan

import mpmath
import pytest
import torch

from kdx.losses import KD, YoloKD
from kdx.losses.divergence import kl_divergence
from kdx.protocols import Outputs

TARGET = torch.zeros(4, dtype=torch.long)


def exact(student, teacher, t):
    """Return the divergence of two rows and its gradient, with 60 digits."""
    with mpmath.workdps(60):

        def log_softmax(row):
            z = [mpmath.mpf(x) / t for x in row]
            return [x - mpmath.log(sum(mpmath.exp(y - max(z)) for y in z)) - max(z) for x in z]

        logs = list(zip(log_softmax(teacher), log_softmax(student), strict=True))
        value = sum(mpmath.exp(p) * (p - q) for p, q in logs)
        return value, [(mpmath.exp(q) - mpmath.exp(p)) / t for p, q in logs]


def pair(kind, size, t, classes=7):
    torch.manual_seed(0)
    student, teacher = size * torch.randn(2, 2, classes)
    if kind == "near":
        student = teacher * (1 + 1e-3 * student.sign())
    elif kind == "shifted":
        student += 1e4
    elif kind == "confident":
        student[:, 0], teacher[:, 0] = student[:, 0] + 12 * t, teacher[:, 0] + 15 * t
    return student.requires_grad_(), teacher


@pytest.mark.parametrize("kind", ["random", "near", "shifted", "confident"])
@pytest.mark.parametrize("t", [0.01, 1, 20, 1e3, 1e6])
@pytest.mark.parametrize("size", [1e-3, 1e-2, 1, 100, 1e4])
def test_float32_has_its_digits_at_any_temperature(kind, t, size):
    student, teacher = pair(kind, size, t)
    value = kl_divergence(student, teacher, temperature=t)
    value.sum().backward()
    rows = (x.tolist() for x in (student, teacher, value, student.grad))
    for own, guide, found, gradient in zip(*rows, strict=True):
        expected, slope = exact(own, guide, t)
        assert found == pytest.approx(float(expected), rel=1e-5, abs=1e-24)
        largest = float(max(map(abs, slope)))
        assert gradient == pytest.approx([float(x) for x in slope], abs=1e-5 * largest + 2e-16 / t)


@pytest.mark.parametrize(("t", "size"), [(1e3, 1), (1e4, 1), (1e6, 1), (20, 0.01), (100, 0.01)])
def test_kd_at_a_high_temperature_is_the_variance_of_the_difference(t, size):
    student, teacher = pair("random", size, t, classes=10)
    limit = (student - teacher).double().var(1, correction=0).mean().item() / 2
    value = KD(temperature=t)(Outputs(student), Outputs(teacher), TARGET)
    assert value.item() == pytest.approx(limit, rel=5 * size / t + 1e-5)


def test_yolo_kd_at_a_high_temperature():
    torch.manual_seed(0)
    maps = torch.randn(2, 4, 16, 2, 3)
    only = partial(YoloKD, num_classes=3, coord_scale=0, object_scale=0)
    value, limit = (
        only(temperature=t)(Outputs(maps[0].to(dtype)), Outputs(maps[1].to(dtype)), TARGET).item()
        for t, dtype in ((1e6, torch.float32), (1e3, torch.float64))
    )
    assert value == pytest.approx(limit, rel=1e-3)


@pytest.mark.parametrize("t", [0.01, 1, 1e6])
@pytest.mark.parametrize("size", [0, 1e-3, 1, 1e4, 1e30])
def test_zero_for_equal_logits_and_never_negative(t, size):
    torch.manual_seed(0)
    student, teacher = size * torch.randn(2, 64, 10)
    student.requires_grad_()
    same = kl_divergence(student, student, temperature=t)
    same.sum().backward()
    assert not same.any()
    assert not student.grad.any()
    assert (kl_divergence(student, teacher, temperature=t) >= 0).all()


@pytest.mark.parametrize("t", [0.01, 1, 1e4])
@pytest.mark.parametrize("masks", [(-inf, -inf), (-1e9, -1e9), (-inf, -1e9)])
def test_masked_classes_count_as_absent(t, masks):
    student, teacher = pair("random", 1, t)
    student, whole = student.detach(), kl_divergence(student, teacher, temperature=t)
    for masked in (0, 3, 7):  # before, among and after the others

        def put(logits, mask, at=masked):
            column = torch.full((len(logits), 1), mask)
            return torch.cat((logits[:, :at], column, logits[:, at:]), 1)

        own = put(student, masks[0]).requires_grad_()
        value = kl_divergence(own, put(teacher, masks[1]), temperature=t)
        value.sum().backward()
        torch.testing.assert_close(value, whole.detach(), rtol=1e-5, atol=0)
        assert own.grad.isfinite().all()
        assert not own.grad[:, masked].any()


def test_one_sided_masks():
    plain, masked = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -inf]])
    value = kl_divergence(plain, masked, temperature=1)
    torch.testing.assert_close(value, torch.tensor([1.5]).log())
    assert kl_divergence(masked, plain, temperature=1).item() == inf
    first = torch.tensor([[-inf, 0.0, 0.0]])
    assert kl_divergence(first, plain, temperature=1).item() == inf


@pytest.mark.parametrize("bad", [nan, inf])
@pytest.mark.parametrize("whose", [0, 1])
def test_what_is_no_number_stays_none(bad, whose):
    logits = [torch.randn(1, 4), torch.randn(1, 4)]
    logits[whose][0, 2] = bad
    assert kl_divergence(*logits, temperature=4).isnan().all()


def test_gradients_by_differences():
    torch.manual_seed(0)
    student = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 5, 2, dtype=torch.float64)
    divergence = partial(kl_divergence, teacher=teacher, temperature=2.5)
    assert torch.autograd.gradcheck(divergence, student)
    assert torch.autograd.gradgradcheck(divergence, student)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised(dtype):
    student, teacher = (torch.randn(4, 10).to(dtype) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        value = kl_divergence(student, teacher, temperature=1e4)
    assert value.dtype == torch.float32
    assert torch.equal(value, kl_divergence(student.float(), teacher.float(), temperature=1e4))


def test_a_large_batch_is_computed_in_pieces():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 10, 100, 80)
    whole = kl_divergence(student, teacher, temperature=4)
    assert whole.shape == (3, 100, 80)
    parts = [
        kl_divergence(s, t, temperature=4, dim=-1)
        for s, t in zip(student.movedim(1, -1), teacher.movedim(1, -1), strict=True)
    ]
    torch.testing.assert_close(whole, torch.stack(parts))
