"""The names of classes in weight files, against those of the data."""

import json

import pytest
import torch
from safetensors.torch import save_file

from kdx.models import weights
from kdx.models.class_names import differences, names_in
from kdx.protocols import InputSpec

NAMES = ["dog", "cat", "hen"]
TENSORS = {"weight": torch.zeros(3, 2)}


def compared(theirs, ours):
    return differences(theirs, ours, place="teacher.weights", whose="a.pth")


@pytest.mark.parametrize(
    "entry",
    [
        {"class_names": NAMES},
        {"classes": tuple(NAMES)},
        {"class_to_idx": {"cat": 1, "dog": 0, "hen": 2}},
        {"id2label": {"0": "dog", "2": "hen", "1": "cat"}},
        {"names": dict(enumerate(NAMES))},
        {"meta": {"CLASSES": NAMES, "epoch": 3}},
    ],
)
def test_a_checkpoint_that_names_its_classes(tmp_path, entry):
    path = tmp_path / "a.pth"
    torch.save({"state_dict": TENSORS, **entry}, path)
    assert names_in(path, 3) == NAMES
    assert names_in(path, 4) is None
    torch.save({"state_dict": TENSORS, **entry}, path, _use_new_zipfile_serialization=False)
    assert names_in(path, 3) == NAMES


@pytest.mark.parametrize(
    "entry",
    [{}, {"optimizers": NAMES}, {"labels": [1, 2, 3]}, {"names": {"a": 0, "b": 0, "c": 1}},
     {"class_weights": torch.zeros(3)}, {"names": {0: "a", 1: "b", 3: "c"}}],
)  # fmt: skip
def test_a_checkpoint_that_does_not(tmp_path, entry):
    torch.save({"state_dict": TENSORS, **entry}, tmp_path / "a.pth")
    assert names_in(tmp_path / "a.pth", 3) is None


def test_metadata_of_safetensors(tmp_path):
    path = tmp_path / "student.safetensors"
    for text in (json.dumps(NAMES), ",".join(NAMES)):
        save_file(TENSORS, path, metadata={"class_names": text, "format": "pt"})
        assert names_in(path, 3) == NAMES
    save_file(TENSORS, path)
    assert names_in(path, 3) is None
    spec = InputSpec(1, 8, (0.0,), (1.0,))
    weights.save(TENSORS, path, input=spec, classes=3, extra={"class_names": NAMES})
    assert names_in(path, 3) == names_in(tmp_path, 3) == NAMES


@pytest.mark.parametrize("ours", [NAMES, ["Dog", " cat", "HEN"], ["__dog__", "c-a-t", "hen."]])
def test_spelling_does_not_count(ours):
    assert compared(NAMES, ours) == []
    assert compared(["0", "1", "10"], ["00", "01", "10"]) == []


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (NAMES, ["cat", "dog", "hen"], "'cat' is its class 1, and class 0 of the data set; .*"),
        (["0", "1", "2", "10"], ["00", "01", "10", "02"], r"'10' is its class 3.*\[0, 1, 3, 2\]"),
        (["automobile", "bird", "cat"], ["bird", "car", "cat"], "'bird' is its class 1, and class"),
        (["bg", "Cat", "dog"], ["cat", "dog", "bg"], r"'cat' is its class 1.* rows \[1, 2, 0\]"),
    ],
)  # fmt: skip
def test_another_order_is_refused(theirs, ours, said):
    with pytest.raises(
        ValueError, match=rf"^teacher\.weights: class order mismatch: a\.pth .*{said}"
    ):
        compared(theirs, ours)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(NAMES, ["Hund", "Katze", "Huhn"]), (["0", "1", "2"], ["1", "2", "3"]),
     (["car", "bird", "cat"], ["automobile", "bird", "cat"])],
)  # fmt: skip
def test_other_names_may_mean_the_same(theirs, ours):
    (note,) = compared(theirs, ours)
    assert note.startswith(f"teacher.weights: class names differ: a.pth was trained on {theirs[0]}")
    assert note.endswith("make sure that their order is the same")


def test_names_that_punctuation_tells_apart_are_compared_as_they_are():
    with pytest.raises(ValueError, match="class order mismatch"):
        differences(["c++", "c"], ["c", "c++"], place="teacher", whose="it")
    assert differences(["C++", "c"], ["C++", "c"], place="teacher", whose="it") == []
    assert differences(["traffic light", "07"], ["Traffic_Light", "7"], place="a", whose="b") == []
