import json

import pytest
import torch
from safetensors.torch import load_file

from kdx import checkpoints
from kdx.checkpoints import Checkpoint
from kdx.losses import CrossEntropy, Hint
from kdx.objective import Objective, Term
from kdx.protocols import Outputs
from kdx.students import smallnet
from tests.unit.kdx.test_teacher import GREY

STATE = Checkpoint(7, "linear", "linear", {"test/top1": 0.5})


def objective(*, hint=False):
    loss = CrossEntropy()
    if hint:
        loss = Hint(student_layer="a", teacher_layer="b")
        features = [Outputs(torch.zeros(2, 10), {n: torch.zeros(2, 3)}) for n in "ab"]
        loss(*features, torch.tensor([0, 1]))
    return Objective(smallnet(in_channels=1), [Term("term", 1.0, loss, "")])


def save(directory, state=STATE, **how):
    return checkpoints.save(directory, objective(**how), state, input=GREY, classes=10)


def test_a_checkpoint_says_what_it_is(tmp_path):
    path = save(tmp_path)
    assert path == tmp_path / "epoch_0007"
    assert checkpoints.state_of(path) == STATE
    assert sorted(p.name for p in path.iterdir()) == ["state.json", "student.safetensors"]
    student = load_file(path / "student.safetensors")
    assert student.keys() == smallnet(in_channels=1).state_dict().keys()


def test_adaptors_are_kept_apart_from_the_student(tmp_path):
    path = save(tmp_path, hint=True)
    assert load_file(path / "adaptors.safetensors").keys() == {"term.regressor.weight"}
    student = load_file(path / "student.safetensors")
    assert student.keys() == smallnet(in_channels=1).state_dict().keys()


def test_a_checkpoint_replaces_its_predecessor_whole(tmp_path):
    save(tmp_path, hint=True)
    path = save(tmp_path, Checkpoint(7, "train", None, {}))
    assert checkpoints.state_of(path).stage == "train"
    assert not (path / "adaptors.safetensors").exists()


def test_what_was_cut_off_is_no_checkpoint(tmp_path):
    (tmp_path / ".epoch_0007").mkdir()
    (tmp_path / ".epoch_0007" / "adaptors.safetensors").touch()
    path = save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["epoch_0007"]
    assert not (path / "adaptors.safetensors").exists()


def test_pruning(tmp_path):
    paths = [save(tmp_path, Checkpoint(epoch, "train", None, {})) for epoch in (2, 10, 9)]
    checkpoints.prune(tmp_path, {paths[0], paths[2]})
    assert sorted(tmp_path.iterdir()) == [paths[0], paths[2]]


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"epoch": 1})])
def test_a_damaged_state_is_refused(tmp_path, content):
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(
        ValueError, match=rf"{tmp_path}/state\.json: not the state of a checkpoint: "
    ):
        checkpoints.state_of(tmp_path)


@pytest.mark.parametrize("meant", ["", "checkpoints", "checkpoints/epoch_0001", "summary.json"])
def test_a_path_that_is_no_checkpoint_is_answered_with_those_there_are(tmp_path, meant):
    paths = [save(tmp_path / "checkpoints", Checkpoint(n, "train", None, {})) for n in (10, 9)]
    (tmp_path / "checkpoints" / "epoch_0011").mkdir()
    there = f"{paths[1]}, {paths[0]}"
    with pytest.raises(
        ValueError, match=rf"{tmp_path / meant} is no checkpoint. There are: {there}$"
    ):
        checkpoints.state_of(tmp_path / meant)


def test_where_there_are_no_checkpoints_that_is_said(tmp_path):
    with pytest.raises(
        ValueError, match=rf"{tmp_path} is no checkpoint, and there is none near it"
    ):
        checkpoints.state_of(tmp_path)
