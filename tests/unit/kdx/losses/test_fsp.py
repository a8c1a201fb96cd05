import numpy as np
import pytest
import torch

from kdx.losses import FSP
from tests.contracts import TARGET, check_loss, outputs, pair

SHAPES = {
    "student": {"a": (4, 3, 4, 4), "b": (4, 2, 2, 2)},
    "teacher": {"c": (4, 3, 4, 4), "d": (4, 2, 4, 4)},
}
LAYERS = [["a", "c"], ["b", "d"]]


def test_contract():
    check_loss(lambda: FSP(layers=LAYERS), **SHAPES, largest=(1e8, 30))  # the fourth power


def test_against_loops():
    student, teacher = pair(**SHAPES)

    def flow(first, second):
        first, second = first.detach().numpy(), second.detach().numpy()
        if first.shape[2] > second.shape[2]:
            first = first.reshape(4, 3, 2, 2, 2, 2).mean((3, 5))
        size = first.shape[2]
        g = np.zeros((4, 3, 2))
        for h in range(size):
            for w in range(size):
                g += first[:, :, None, h, w] * second[:, None, :, h, w]
        return g / size**2

    own = flow(student.features["a"], student.features["b"])
    guide = flow(teacher.features["c"], teacher.features["d"])
    value = FSP(layers=LAYERS)(student, teacher, TARGET)
    assert value.item() == pytest.approx(((own - guide) ** 2).mean(), rel=1e-12)


def test_every_neighbour_counts():
    student = outputs(dict.fromkeys("abc", (4, 3, 2, 2)), dtype=torch.float64)
    teacher = outputs(dict.fromkeys("abc", (4, 3, 2, 2)), seed=1, dtype=torch.float64)
    parts = [FSP(layers=[[n, n] for n in two])(student, teacher, TARGET) for two in ("ab", "bc")]
    value = FSP(layers=[[n, n] for n in "abc"])(student, teacher, TARGET)
    assert value.item() == pytest.approx(sum(parts).item(), rel=1e-12)


def test_one_pair_and_other_widths_are_refused():
    with pytest.raises(ValueError, match="layers: fsp compares the flow between layers"):
        FSP(layers=[["a", "c"]])
    student, teacher = outputs(SHAPES["student"]), outputs(SHAPES["teacher"])
    with pytest.raises(ValueError, match=r"fsp: channels \[3, 2\] for the student, \[2, 3\]"):
        FSP(layers=[["a", "d"], ["b", "c"]])(student, teacher, TARGET)
