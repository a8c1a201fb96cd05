from dataclasses import asdict

from pydantic import TypeAdapter

from kdx.run.run import run
from kdx.training.progress import Progress
from kdx.training.state import TrainState


def test_progress_from_before_there_were_training_metrics_is_read():
    now = Progress(epochs=2, last={"top1": 0.5})
    before = asdict(now)
    del before["train"]
    assert TypeAdapter(Progress).validate_python(before) == now


def test_a_student_of_kdx_0_1_has_its_kernels_of_1_expanded(recipe, console):
    student = "student={use: tests.toys.pointwise, transforms: [{use: expand.ExpandNet, conv: cl"
    old = recipe(f"{student}, pointwise: expand}}]}}", "epochs=1")
    state, _ = TrainState.newest(run(old, console))
    built, _ = state.build_student(recipe(f"{student}}}]}}"))
    assert "0.factors.0.weight" in state.student
    assert built.state_dict().keys() == state.student.keys()


def test_a_checkpoint_has_the_phase_that_a_stage_without_one_goes_on_in(recipe, console):
    stages = "stages=[{phase: nonlinear}, {name: same}, {phase: linear}]"
    given = recipe(
        "student.transforms=[{use: expand.ExpandNet, conv: cl}]", stages, "keep_checkpoints=3"
    )
    done = run(given, console)
    found = [TrainState.read(done / f"checkpoints/epoch_000{n}").phase for n in (1, 2, 3)]
    assert found == ["nonlinear", "nonlinear", "linear"]
