"""Arguments that a factory declares as `**options: Unpack[SomeTypedDict]`."""

from dataclasses import dataclass

import expand
from kdx.recipe.arguments import check, fill


def test_unpacked_options_are_checked_by_name_and_type():
    problems = dict(check(expand.ExpandNet, "transform", {"rate": "4", "rte": 3, "conv": "cx"}))
    assert problems.keys() == {"rate", "rte", "conv"}
    assert problems["rte"].startswith("unknown argument. Did you mean 'rate'?")
    assert "'4'" in problems["rate"]
    fine = {"conv": "cl", "rate": 4, "select": ["layer1.*"], "overrides": {"a": {"rate": 2}}}
    assert dict(check(expand.ExpandNet, "transform", fine)) == {}


def test_a_transform_is_told_its_input_shape():
    shape = (32, 3, 8, 8)
    filled = fill(expand.ExpandNet, {"conv": "cl"}, {"input_shape": shape, "other": 1})
    assert filled == {"conv": "cl", "input_shape": shape}
    said = fill(expand.ExpandNet, {"input_shape": [1, 3, 8, 8]}, {"input_shape": shape})
    assert said["input_shape"] == [1, 3, 8, 8]


@dataclass
class Settings:
    width: int


def configured(*, settings: Settings) -> int:
    return settings.width


def test_arguments_of_a_dataclass_are_checked_and_made():
    assert fill(configured, {"settings": {"width": 3}}, {})["settings"] == Settings(3)
    ((name, problem),) = check(configured, "network", {"settings": {"width": "x"}})
    assert (name, "is not an integer" in problem) == ("settings", True)


def squared(student: object, teacher: object) -> float:
    return 0.0


def made(gain: float) -> object:
    return squared


def test_a_function_that_is_the_loss_itself_is_pointed_out():
    hint = "if squared is the loss itself, name a function or a class that makes it"
    assert dict(check(squared, "loss", {})) == {
        "student": f"is missing; {hint}",
        "teacher": f"is missing; {hint}",
    }
    assert dict(check(squared, "network", {})) == {"student": "is missing", "teacher": "is missing"}
    assert dict(check(made, "loss", {})) == {"gain": "is missing"}
