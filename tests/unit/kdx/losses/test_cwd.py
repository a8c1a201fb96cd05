import numpy as np
import pytest
import torch

from kdx.losses import AT, CWD, NST
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


@pytest.mark.parametrize("make", [AT, CWD, NST])
@pytest.mark.parametrize("shapes", [((4, 3), (4, 3)), ((4, 3, 2, 2), (4, 3, 1, 1))])
def test_one_position_is_refused(make, shapes):
    """An attention map, a softmax or a channel of one number is the same for all."""
    pair = [outputs({"a": shape, "b": shape}) for shape in shapes]
    name = make.__name__.lower()
    with pytest.raises(ValueError, match=rf"{name}: student 'a', teacher 'b': .* have one positio"):
        make(**LAYERS)(*pair, TARGET)


def test_logits_of_one_position_are_refused():
    with pytest.raises(ValueError, match=r"cwd: student '', teacher '': features .* have one posi"):
        CWD()(outputs({}), outputs({}), TARGET)
