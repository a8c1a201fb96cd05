import math
from functools import partial

import pytest
import torch

from kdx.losses import YoloKD
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs

CLASSES, VALUES, SHAPE = 3, 8, (4, 16, 2, 3)
kd = partial(YoloKD, num_classes=CLASSES)


def pair(dtype=torch.float64):
    return (outputs({}, logits=SHAPE, dtype=dtype, seed=s) for s in (0, 1))


def test_contract():
    check_loss(kd, logits=SHAPE, may_overflow=True)


def test_zero_where_the_student_agrees():
    student, _ = pair()
    assert kd()(student, Outputs(student.logits.detach()), TARGET).item() == 0


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(values):
    e = [math.exp(v) for v in values]
    return [v / sum(e) for v in e]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_against_a_loop_over_boxes(temperature):
    student, teacher = pair()
    expected = {"coord": 0.0, "object": 0.0, "class": 0.0}
    boxes = (
        each.logits.unflatten(1, (2, VALUES)).movedim(2, -1).flatten(0, 3).tolist()
        for each in (student, teacher)
    )
    for own, guide in zip(*boxes, strict=True):
        sure = sigmoid(guide[4])
        expected["object"] += (sure - sigmoid(own[4])) ** 2 / 2
        far = [(sigmoid(p) - sigmoid(q)) ** 2 for p, q in zip(own[:2], guide[:2], strict=True)]
        far += [(p - q) ** 2 for p, q in zip(own[2:4], guide[2:4], strict=True)]
        expected["coord"] += sure * sum(far) / 2
        p, q = (softmax([v / temperature for v in each[5:]]) for each in (guide, own))
        kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        expected["class"] += sure * temperature**2 * kl
    for name, value in expected.items():
        scales = {f"{n}_scale": 2.0 * (n == name) for n in expected}
        loss = kd(temperature=temperature, **scales)
        assert loss(student, teacher, TARGET).item() == pytest.approx(2 * value / 4, rel=1e-12)
    total = kd(temperature=temperature)(student, teacher, TARGET).item()
    assert total == pytest.approx(sum(expected.values()) / 4, rel=1e-12)


def test_where_the_teacher_sees_nothing_only_objectness_is_learned():
    student, teacher = pair()
    blind = teacher.logits.detach().clone()
    blind[:, 4::VALUES] = -40
    kd()(student, Outputs(blind), TARGET).backward()
    gradient = student.logits.grad.unflatten(1, (2, VALUES))
    assert gradient[:, :, 4].all()
    others = [k for k in range(VALUES) if k != 4]
    assert gradient[:, :, others].abs().max() < 1e-12
    assert teacher.logits.grad is None


def test_a_batch_in_parts_gives_the_gradient_of_the_whole():
    student, teacher = pair()
    whole = torch.autograd.grad(kd()(student, teacher, TARGET), student.logits)[0]
    parts = sum(
        n / 4 * kd()(Outputs(own), Outputs(guide), TARGET)
        for n, own, guide in zip(
            (1, 3), student.logits.split((1, 3)), teacher.logits.split((1, 3)), strict=True
        )
    )
    (gradient,) = torch.autograd.grad(parts, student.logits)
    torch.testing.assert_close(gradient, whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(4, 16, 4, 6), (4, 24, 2, 3)])
def test_another_grid_and_other_anchors(shape):
    student, _ = pair()
    expected = r"\[4, 16, 2, 3\], the teacher's \[4, .*\]: both must have the same grid, anchors"
    with pytest.raises(ValueError, match=expected):
        kd()(student, Outputs(torch.zeros(shape)), TARGET)


def test_refusals():
    with pytest.raises(ValueError, match="yolo_kd needs a teacher: add a `teacher:` section"):
        kd()(next(iter(pair())), None, TARGET)
    with pytest.raises(ValueError, match=r"temperature: 0 is not a finite number above 0"):
        kd(temperature=0)
    with pytest.raises(ValueError, match="coord_scale: inf is not a finite number of at least 0"):
        kd(coord_scale=math.inf)
