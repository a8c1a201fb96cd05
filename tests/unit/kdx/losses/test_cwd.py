import numpy as np
import pytest
import torch

from kdx.losses import CWD
from tests.contracts import TARGET, check_loss, outputs
from tests.unit.kdx.losses.test_dkd import kl, softmax

SHAPES = {"student": {"a": (4, 3, 4, 4)}, "teacher": {"b": (4, 3, 4, 2)}}
LAYERS = {"student_layer": "a", "teacher_layer": "b"}
PIXELS = {"logits": (4, 5, 3, 2), "target": torch.zeros(4, 3, 2, dtype=torch.int64)}


def test_contract():
    check_loss(lambda: CWD(**LAYERS), **SHAPES)
    check_loss(CWD, **PIXELS)
    wider = {"student": SHAPES["student"], "teacher": {"b": (4, 6, 4, 2)}}
    check_loss(lambda: CWD(**LAYERS), **wider, may_overflow=True)


def test_against_loops_on_logits():
    student = outputs({}, logits=PIXELS["logits"], dtype=torch.float64)
    teacher = outputs({}, logits=PIXELS["logits"], seed=1, dtype=torch.float64)
    s, t = (each.logits.detach().flatten(2).numpy() for each in (student, teacher))
    values = [kl(softmax(t[b, c] / 2), softmax(s[b, c] / 2)) for b in range(4) for c in range(5)]
    value = CWD(temperature=2)(student, teacher, PIXELS["target"])
    assert value.item() == pytest.approx(2**2 * np.mean(values), rel=1e-12)


def test_temperatures_by_default():
    assert CWD().temperature == 1
    assert CWD(**LAYERS).temperature == 4
    with pytest.raises(ValueError, match="temperature: 0 is not a finite number above 0"):
        CWD(temperature=0)


def test_vectors_are_refused():
    pair = [outputs({"a": (4, 3), "b": (4, 3)}) for _ in range(2)]
    with pytest.raises(ValueError, match=r"cwd: student 'a', teacher 'b': vectors have no positio"):
        CWD(**LAYERS)(*pair, TARGET)
    with pytest.raises(ValueError, match=r"cwd: student '', teacher '': vectors have no positions"):
        CWD()(*pair, TARGET)
