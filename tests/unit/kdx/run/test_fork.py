"""Runs that start from another run's student."""

import json
import shutil
from unittest.mock import Mock

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from kdx.report.summary import read_summary
from kdx.run.fork import brought, open_fork
from kdx.run.run import run
from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import StageRunner
from kdx.training.state import TrainState
from kdx.util.errors import Stopped
from tests.faults.resuming import stop_after
from tests.unit.conftest import loaded
from tests.unit.runs import EXPAND, SGD, contents, same

MOMENTUM = "optimizer={use: SGD, lr: 0.05, momentum: 0.9}"
PRESERVE = (
    "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, rate: 2, init: preserve}]"
)
NONE = "optimizer={use: SGD, lr: 1e-30}"  # trains nothing
HINT = "losses=[{use: hint, student_layer: fc1, teacher_layer: relu_fc1}]"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the directory of a run of an expanded student, of two epochs."""
    recipe = loaded(tmp_path_factory.mktemp("fork"), EXPAND, MOMENTUM, "epochs=2", name="expanded")
    return run(recipe, Console(quiet=True))


@pytest.fixture
def expanded(trained, recipe):
    """Return a copy of it, where the recipe of that name runs."""
    return shutil.copytree(trained, recipe(name="expanded").run_dir)


def newest(run_dir):
    return max((run_dir / "checkpoints").iterdir())


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def first_stage(recipe, source):
    """Return a runner of the recipe's first stage, forked from `source`, and what is not loaded."""
    fork = open_fork(source, recipe)
    job = build(recipe, load_compact=fork.load_compact if fork.compact else None)
    runtime = Runtime(job, accelerator_for(job))
    fork.load_student(runtime)
    runner = StageRunner(runtime, job.stages[0])
    loaded, *fresh = fork.begin(runner)
    assert loaded.startswith("loaded from it: student")
    return runner, fresh


def test_a_fork_trains_another_students_weights_from_epoch_one(recipe, console, expanded):
    changed = recipe(EXPAND, "optimizer={use: SGD, lr: 0.001, momentum: 0.9}", name="forked")
    run_dir = run(changed, console, fork=expanded)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    before = json.loads((expanded / "metrics.jsonl").read_text().splitlines()[-1])
    assert [line["epoch"] for line in lines] == [1]
    assert lines[0]["loss/total"] < before["loss/total"]
    printed = console.file.getvalue()
    assert (
        f"note     forked from {newest(expanded)}; differs in: optimizer.lr: 0.05, now 0.001; "
        "epochs: 2, now 1\n"
    ) in printed
    assert "note     loaded from it: student, optimizer state\n" in printed
    assert "from scratch" not in printed
    place = str(newest(expanded))
    assert TrainState.read(newest(run_dir)).run["forked_from"]["checkpoint"] == place
    assert read_summary(run_dir).forked_from == place
    assert f"started from the student of `{place}`" in (run_dir / "report.md").read_text()


def test_student_and_optimizer_are_those_of_the_checkpoint(recipe, expanded):
    runner, fresh = first_stage(recipe(EXPAND, SGD[:-1] + ", momentum: 0.9}"), newest(expanded))
    state = TrainState.read(newest(expanded))
    assert fresh == []
    assert equal(runner.objective.student.state_dict(), state.student)
    kept = state.training["optimizer"]["state"]
    for index, values in runner.optimizer.state_dict()["state"].items():
        assert torch.equal(values["momentum_buffer"], kept[index]["momentum_buffer"])
    assert runner.optimizer.param_groups[0]["lr"] == 0.1


def test_the_adaptor_goes_along_if_it_fits(recipe, console, teacher_run):
    teacher = f"teacher={{use: smallnet, weights: {teacher_run}}}"
    hinted = run(recipe(teacher, HINT, MOMENTUM, name="hinted"), console)
    runner, fresh = first_stage(recipe(teacher, HINT, MOMENTUM), hinted)
    assert fresh == []
    assert equal(runner.objective.adaptors.state_dict(), TrainState.read(newest(hinted)).adaptors)
    _, fresh = first_stage(recipe(teacher, HINT[:-2] + ", name: other}]", MOMENTUM), hinted)
    assert fresh == [
        "the adaptor of other starts from scratch: none of its shape found",
        "the optimizer's state starts from scratch: the adaptors differ",
    ]


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (["optimizer={use: AdamW, lr: 0.01}"], "the optimizer was SGD, now AdamW"),
        ([MOMENTUM, "student.transforms.0.init=preserve"], "the student's transforms differ"),
        ([MOMENTUM, "optimizer.no_decay=[bias]"], "its parameter groups differ"),
        ([MOMENTUM, "optimizer.layer_decay=0.5"], "its parameter groups differ"),
    ],
)
def test_an_optimizer_that_does_not_fit_starts_from_scratch(recipe, expanded, now, why):
    _, fresh = first_stage(recipe(EXPAND, *now), expanded)
    assert fresh == [f"the optimizer's state starts from scratch: {why}"]


def test_an_optimizer_with_the_same_groups_goes_on(recipe, console):
    groups = "optimizer={use: SGD, lr: 0.05, momentum: 0.9, no_decay: [bias, norm], groups: "
    forked = run(recipe(f"{groups}[{{match: fc*, lr: 0.1}}]}}", name="grouped"), console)
    assert first_stage(recipe(f"{groups}[{{match: fc*, lr: 0.2}}]}}"), forked)[1] == []
    why = "the optimizer's state starts from scratch: its parameter groups differ"
    assert first_stage(recipe(f"{groups}[{{match: conv*, lr: 0.1}}]}}"), forked)[1] == [why]


def test_an_optimizer_whose_state_lacks_something_starts_from_scratch(recipe, console):
    adam = run(recipe("optimizer={use: Adam, lr: 0.01}", name="adam"), console)
    amsgrad = recipe("optimizer={use: Adam, lr: 0.01, amsgrad: true}")
    why = "the optimizer's state starts from scratch: its arguments differ"
    assert first_stage(amsgrad, adam)[1] == [why]
    plain = run(recipe(SGD, name="sgd"), console)
    assert first_stage(recipe(MOMENTUM), plain)[1] == []
    assert first_stage(recipe(SGD), plain)[1] == []


def test_a_student_with_other_transforms_is_restored_first(recipe, console, expanded):
    run_dir = run(recipe(NONE, name="compact"), console, fork=expanded)
    parameters = [name for name in contents(expanded) if "running" not in name]
    for name in (n for n in parameters if "num_batches" not in n):
        torch.testing.assert_close(contents(run_dir)[name], contents(expanded)[name])
    assert "starts from scratch: the student's transforms differ\n" in console.file.getvalue()
    assert "student: " not in console.file.getvalue()


def test_a_compact_student_is_expanded_if_its_weights_are_kept(recipe, console):
    plain = run(recipe(MOMENTUM, name="compact"), Console(quiet=True))
    run_dir = run(recipe(PRESERVE, NONE, name="preserved"), console, fork=plain)
    for name in ("conv3.weight", "fc2.weight"):
        torch.testing.assert_close(contents(run_dir)[name], contents(plain)[name])
    with pytest.raises(ValueError, match=r"^student\.transforms: .* set `init: preserve`"):
        run(recipe(EXPAND, name="lost"), console, fork=plain)
    assert not recipe(name="lost").run_dir.exists()


def test_another_network_is_refused_before_anything_is_written(recipe, console, expanded):
    wide = "student={use: smallnet, kernel_size: 7}"
    for overrides, message in (
        ((EXPAND, "student.kernel_size=7"), r"student\.safetensors: state dict does not mat"),
        ((wide,), r"cannot fork .*epoch_0002: student: 4 tensors differ in name or shape: conv1"),
    ):
        other = recipe(*overrides, name="other")
        with pytest.raises(ValueError, match=message):
            run(other, console, fork=expanded)
        assert not other.run_dir.exists()


def test_a_place_that_cannot_be_forked_is_refused(recipe, console, expanded, tmp_path):
    with pytest.raises(ValueError, match=r"runs is not a checkpoint; none found near it"):
        run(recipe(), console, fork=tmp_path / "runs")
    with pytest.raises(ValueError, match=r"--fork .*expanded: this is the run itself; name the n"):
        run(recipe(name="expanded"), console, fork=expanded, overwrite=True)
    moved = shutil.copytree(newest(expanded), tmp_path / "elsewhere" / "epoch_0002")
    assert first_stage(recipe(EXPAND, MOMENTUM), moved)[1] == []
    with pytest.raises(ValueError, match=r"cannot fork .*elsewhere/epoch_0002: .* recipe to rest"):
        run(recipe(), console, fork=moved)
    with pytest.raises(FileExistsError, match=r"expanded already exists"):
        run(recipe(name="expanded"), console, fork=newest(expanded))


def test_a_student_that_cannot_be_restored_is_refused(recipe, console, monkeypatch):
    phases = recipe(EXPAND, "stages=[{phase: nonlinear}, {phase: linear}]", "keep_checkpoints=2")
    run_dir = run(phases, Console(quiet=True))
    with pytest.raises(ValueError, match=r"cannot fork .*epoch_0001: .* nonlinear mode, which"):
        run(recipe(name="other"), console, fork=run_dir / "checkpoints" / "epoch_0001")


def test_a_damaged_checkpoint_is_passed_over(recipe, console):
    run_dir = run(recipe("epochs=2", "keep_checkpoints=2", name="two"), Console(quiet=True))
    student = newest(run_dir) / "student.safetensors"
    student.write_bytes(student.read_bytes()[:-1])
    forked = run(recipe(), console, fork=run_dir)
    assert TrainState.read(newest(forked)).run["forked_from"]["checkpoint"].endswith("epoch_0001")
    assert "epoch_0002: student.safetensors has " in console.file.getvalue()


def test_a_fork_is_resumed_from_its_own_checkpoint(recipe, console, expanded, monkeypatch):
    unbroken = run(recipe(EXPAND, MOMENTUM, name="forked"), Console(quiet=True), fork=expanded)
    again = recipe(EXPAND, MOMENTUM, name="again")
    with stop_after(2, monkeypatch), pytest.raises(Stopped, match="saved in"):
        run(again, Console(quiet=True), fork=expanded)
    run_dir = run(again, console, resume=True, fork=expanded)
    said = "note     resumed from epoch_0000_step_000002; not forked again\n"
    assert said in console.file.getvalue()
    assert "forked from" not in console.file.getvalue()
    assert same(load_file(run_dir / "student.safetensors"), contents(unbroken))
    states = [TrainState.read(newest(place)) for place in (unbroken, run_dir)]
    assert states[0].run["forked_from"] == states[1].run["forked_from"]
    assert read_summary(run_dir).forked_from == str(newest(expanded))


def test_several_processes_fork_the_checkpoint_of_the_main_one(expanded, monkeypatch):
    assert brought(expanded) == expanded
    copied = []
    monkeypatch.setattr("kdx.run.fork.is_alone", lambda: False)
    monkeypatch.setattr("kdx.run.fork.bring", copied.extend)
    assert [brought(place) for place in (expanded, newest(expanded))] == [newest(expanded)] * 2
    assert copied == [newest(expanded)] * 2
    monkeypatch.setattr("kdx.run.fork.decided", lambda place: expanded / "theirs")
    assert brought(expanded) == expanded / "theirs"


def test_a_refused_resume_names_the_way_out(recipe, console, expanded):
    changed = recipe(EXPAND, MOMENTUM, "optimizer.lr=0.1", "epochs=2", name="expanded")
    with pytest.raises(ValueError, match=r"cannot resume: .*\n  optimizer\.lr: 0\.05, now 0\.1\n.*"
                       rf"start a new run from it: --fork {newest(expanded)} name="):  # fmt: skip
        run(changed, console, resume=True)


def test_a_fork_that_ends_before_its_first_checkpoint_is_resumed_as_a_fork(
    recipe, console, expanded, monkeypatch
):
    def killed(what, fork):
        with monkeypatch.context() as patch:
            patch.setattr("kdx.run.run.fit", Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                run(what, Console(quiet=True), fork=fork)

    what = recipe(EXPAND, MOMENTUM, name="forked")
    killed(what, expanded)
    run_dir = run(what, console, resume=True)
    assert read_summary(run_dir).forked_from == str(newest(expanded))
    assert "forked from" in console.file.getvalue()
    straight = run(recipe(EXPAND, MOMENTUM, name="straight"), Console(quiet=True), fork=expanded)
    assert same(contents(run_dir), contents(straight))
    plain = recipe(EXPAND, MOMENTUM, name="plain")
    for fork in (expanded, None):
        killed(plain, fork)
    assert read_summary(run(plain, console, resume=True)).forked_from is None
