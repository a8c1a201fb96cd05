import numpy as np
import pytest
import torch

from kdx.losses import KD
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs


def test_contract():
    check_loss(KD)


def test_zero_where_the_student_agrees():
    student = outputs({}, dtype=torch.float64)
    shifted = Outputs(student.logits.detach() + 7)  # softmax does not see a shift
    assert KD()(student, shifted, TARGET).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_against_numpy(temperature):
    student, teacher = (outputs({}, dtype=torch.float64, seed=s) for s in (0, 1))

    def softmax(of):
        e = np.exp(of.logits.detach().numpy() / temperature)
        return e / e.sum(1, keepdims=True)

    p, q = softmax(teacher), softmax(student)
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    value = KD(temperature=temperature)(student, teacher, TARGET)
    assert value.item() == pytest.approx(expected, abs=1e-12)


def test_gradient_reaches_the_student_alone():
    student, teacher = outputs({}), outputs({}, seed=1)
    KD(temperature=2)(student, teacher, TARGET).backward()
    difference = (student.logits / 2).softmax(1) - (teacher.logits / 2).softmax(1)
    torch.testing.assert_close(student.logits.grad, 2 * difference / 4)
    assert teacher.logits.grad is None


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperature_out_of_range(temperature):
    with pytest.raises(ValueError, match=f"temperature: {temperature} is not a finite number"):
        KD(temperature=temperature)


def test_needs_a_teacher():
    with pytest.raises(ValueError, match="kd needs a teacher: add a `teacher:` section"):
        KD()(outputs({}), None, TARGET)


def test_other_classes():
    with pytest.raises(ValueError, match=r"\(4, 5\), the teacher's \(4, 7\): .* same classes"):
        KD()(outputs({}), Outputs(torch.zeros(4, 7)), TARGET)


def maps(dtype=torch.float64):
    torch.manual_seed(0)
    return tuple(torch.randn(2, 5, 4, 6, dtype=dtype) for _ in range(2))


def test_pixels_are_taught_as_images_are():
    student, teacher = maps()
    value = KD()(Outputs(student), Outputs(teacher), torch.full((2, 4, 6), -100))
    rows = [Outputs(answer.movedim(1, -1).reshape(-1, 5)) for answer in (student, teacher)]
    assert value.item() == pytest.approx(KD()(*rows, TARGET).item(), rel=1e-14)


def test_parts_of_a_batch_add_up_to_the_whole():
    student, teacher = maps()
    whole = KD()(Outputs(student), Outputs(teacher), TARGET)
    parts = [
        KD()(Outputs(s), Outputs(t), TARGET) / 2
        for s, t in zip(student.split(1), teacher.split(1), strict=True)
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pixels_of_half_precision_are_computed_in_float32(dtype):
    student, teacher = maps(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        value = KD()(Outputs(student), Outputs(teacher), TARGET)
    assert torch.equal(value, KD()(Outputs(student.float()), Outputs(teacher.float()), TARGET))


def test_answers_on_a_grid_are_refused():
    grid = Outputs(torch.zeros(2, 75, 3, 3))
    with pytest.raises(ValueError, match=r"kd: the logits .* 75 channels, .* use `yolo_kd`"):
        KD(num_classes=20)(grid, grid, TARGET)
