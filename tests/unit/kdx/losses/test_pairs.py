import pytest
import torch

from kdx.losses import AT, SP, Hint
from kdx.losses.pairs import layer_pairs
from tests.contracts import TARGET, outputs


def test_several_pairs_are_summed():
    student = outputs({"a": (4, 6), "b": (4, 3, 2, 2)}, dtype=torch.float64)
    teacher = outputs({"c": (4, 5), "d": (4, 3, 2, 2)}, seed=1, dtype=torch.float64)
    pairs = [["a", "c"], ["b", "d"]]
    parts = [
        SP(student_layer=s, teacher_layer=t)(student, teacher, TARGET).item() for s, t in pairs
    ]
    value = SP(layers=pairs)(student, teacher, TARGET)
    assert value.item() == pytest.approx(sum(parts), rel=1e-12)


def test_each_pair_has_a_regressor_of_its_own():
    student, teacher = outputs({"a": (4, 6)}), outputs({"c": (4, 5), "d": (4, 7)})
    loss = Hint(layers=[["a", "c"], ["a", "d"]])
    loss(student, teacher, TARGET)
    shapes = {name: list(tensor.shape) for name, tensor in loss.state_dict().items()}
    assert shapes == {"regressor.weight": [5, 6], "regressor_1.weight": [7, 6]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"layers: give `student_layer` and `teacher_layer`, or several pairs"),
        ({"student_layer": "a"}, r"layers: give `student_layer` and `teacher_layer`"),
        ({"student_layer": "a", "teacher_layer": "b", "layers": [["a", "b"]]}, r"layers: give"),
        ({"layers": []}, r"layers: empty"),
        ({"layers": ["ab"]}, r"layers\[0\]: 'ab' is not a pair \[student, teacher\]"),
        ({"layers": [["a", "b"], ["a"]]}, r"layers\[1\]: \['a'\] is not a pair"),
    ],
)
def test_what_is_not_pairs_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        layer_pairs(**given)


def test_errors_name_the_loss_and_the_layers():
    student, teacher = outputs({"a": (4, 2, 3, 3, 3)}), outputs({"b": (4, 3)})
    with pytest.raises(ValueError, match=r"at: student 'a', teacher 'b': \(4, 2, 3, 3, 3\) is not"):
        AT(student_layer="a", teacher_layer="b")(student, teacher, TARGET)
    with pytest.raises(ValueError, match=r"at needs a teacher"):
        AT(student_layer="a", teacher_layer="b")(student, None, TARGET)
