"""Which known name is suggested for an unknown one."""

import pytest

from kdx.recipe.wording import unknown


@pytest.mark.parametrize(
    ("name", "known", "nearest"),
    [
        ("kdd", ["kd", "dkd"], "kd"),
        ("sgd", ["SGD", "ASGD"], "SGD"),
        ("Nett", ["Net", "net"], "Net"),
        ("acnet", ["expand.ACNet", "expand.DBB"], "expand.ACNet"),
        ("biass", ["bias", "conv1.bias", "fc.bias"], "bias"),
        ("fc.biass", ["bias", "conv1.bias", "fc.bias"], "fc.bias"),
        ("resnet18", ["resnet8x4", "teachers.resnet18"], "teachers.resnet18"),
    ],
)
def test_the_nearest_name_is_suggested(name, known, nearest):
    assert unknown(name, known).startswith(f" Did you mean {nearest!r}? Known: ")


def test_a_name_that_is_unlike_all_has_no_suggestion():
    assert unknown("zebra", ["kd", "expand.ACNet"]) == " Known: expand.ACNet, kd"
    assert unknown("zebra", []) == " Known: none"
