"""A run stopped after any optimizer step and resumed is, to the bit, one that never stopped."""

import json

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdx.launch.stopping import Stop
from kdx.run.run import run
from kdx.util.errors import Stopped
from tests.faults.resuming import differences, run_stopped_at, stop_after

TWO = "epochs=2"  # 64 images in batches of 16: 8 steps
EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]"
HINT = "{use: hint, student_layer: fc1, teacher_layer: relu_fc1}"
CRD = "losses=[{use: cross_entropy}, {use: crd, dim: 8, negatives: 20}]"
STAGES = f"stages=[{{name: hints, losses: [{HINT}]}}, {{name: kd, losses: [{{use: kd}}]}}]"
PHASES = "stages=[{phase: nonlinear}, {phase: linear}]"
AUGMENT = "data.augment={crop: 2, flip: true}"
BALANCED = (
    "data.sampling=balanced",
    "losses=[{use: cross_entropy, class_weights: balanced}]",
)
MODERN = (
    "data.augment=[{use: RandomResizedCrop, scale: [0.35, 1]}, {use: RandAugment, num_ops: 2}, "
    "{use: RandomErasing, p: 0.25}]",
    "data.mixup=0.2",
    "data.cutmix=1.0",
    "losses=[{use: cross_entropy}, {use: dkd}]",
)
TEACHERS = (
    "teachers={one: {use: smallnet, allow_chance: true}, mean: {use: ema}}",
    "losses=[{use: cross_entropy}, {use: kd, teacher: {one: 1, mean: 2}}, {use: hint, "
    "teacher: mean, student_layer: '@stage2', teacher_layer: '@stage2'}]",
)
CASES = {
    "plain": ([TWO, AUGMENT], False),
    "AdamW, cosine": ([TWO, "optimizer={use: AdamW, lr: 0.01}", "schedule.use=cosine"], False),
    "parameter groups": (
        [
            TWO,
            EXPAND,
            "optimizer={use: AdamW, lr: 0.01, no_decay: [norm, bias], layer_decay: 0.5, decay: "
            "product, groups: [{match: 'fc*', lr: 0.1, weight_decay: 0.2}]}",
            "schedule.use=cosine",
        ],
        False,
    ),
    "an optimizer of timm, adaptive clipping": (
        [TWO, "optimizer={use: timm.lamb, lr: 0.01}", "clip={by: adaptive, at: 0.1}"],
        False,
    ),
    "stopped early": (
        ["epochs=9", "data.validation=32", "patience=1", "optimizer={use: SGD, lr: 1e-9}"],
        False,
    ),
    "accumulation": ([TWO, AUGMENT, "accumulate=4"], False),
    "two workers, balanced sampling": ([TWO, AUGMENT, "data.workers=2", *BALANCED], False),
    "dropout": ([TWO, "student={use: tests.toys.dropping}"], False),
    "phases of an ExpandNet": ([EXPAND, PHASES], False),
    "hint, then KD": ([STAGES], True),
    "crd": ([TWO, AUGMENT, CRD], True),
    "crd, accumulation": ([TWO, CRD, "accumulate=2"], True),
    "diagnosed gradients": ([TWO, "losses=[{use: cross_entropy}, {use: kd}]", "diagnose=2"], True),
    "a memo, balanced sampling": (
        [TWO, AUGMENT, *BALANCED, "losses=[{use: kd}]", "teacher.memo={views: 1}"],
        True,
    ),
    "several teachers, the student's moving average": ([TWO, EXPAND, *TEACHERS], False),
    "an average of an ExpandNet": ([TWO, EXPAND, "average={use: ema, decay: 0.9}"], False),
    "an average of the last epochs": (["epochs=3", "average={use: swa, start: 1}"], False),
    "an average of all epochs": ([TWO, "average={use: swa, start: 0}"], False),
    "mixup, cutmix, RandAugment": ([TWO, *MODERN, "data.repeats=3"], True),
    "mixup, cutmix, RandAugment, a memo, two workers": (
        [TWO, *MODERN, "data.workers=2", "teacher.memo={views: 2}"],
        True,
    ),
    "stages of their own": (
        ["stages=[{epochs: 1}, {epochs: 2, optimizer: {use: Adam, lr: 0.01}}]", "evaluate_every=2"],
        False,
    ),
    "all at once": (
        [
            TWO,
            AUGMENT,
            "data.limit=58",
            "data.workers=1",
            "accumulate=3",
            "clip=0.5",
            "skip_bad_steps=2",
            "student={use: tests.toys.dropping}",
            "checkpoint_every=1",
        ],
        False,
    ),
    "best, of a validation split, label noise": (
        [TWO, "data.validation=32", "select=best", "data.label_noise=0.5", "train_metrics=true"],
        False,
    ),
}


@pytest.fixture
def unbroken_and_recipe(recipe, teacher_run, request):
    """Return a run that never stopped, and the same recipe under another name."""
    overrides, taught = CASES[request.param]
    teacher = f"teacher={{use: smallnet, weights: {teacher_run}}}"
    overrides = [teacher, *overrides] if taught else overrides
    unbroken = run(recipe(*overrides, name="unbroken"), Console(quiet=True))
    return unbroken, recipe(*overrides, name="resumed")


@pytest.mark.parametrize("unbroken_and_recipe", CASES, indirect=True)
def test_a_resumed_run_is_to_the_bit_one_that_never_stopped(unbroken_and_recipe, monkeypatch):
    """Stopped in the first epoch, then in its last step or the next epoch's first, and after."""
    unbroken, recipe = unbroken_and_recipe
    resumed = run_stopped_at(recipe, [2, 2, 1, 2], monkeypatch)
    assert differences(unbroken, resumed) == []


@pytest.mark.parametrize("unbroken_and_recipe", ["stopped early"], indirect=True)
def test_the_run_that_ends_early_does(unbroken_and_recipe):
    unbroken, _ = unbroken_and_recipe
    epochs = len((unbroken / "metrics.jsonl").read_text().splitlines())
    assert 2 <= epochs < 9
    said = json.loads((unbroken / "summary.json").read_text())["stopped_early"]
    assert said.startswith(f"after epoch {epochs}; validation top-1 has not improved in 1 eval")


@pytest.mark.long
@pytest.mark.parametrize("unbroken_and_recipe", CASES, indirect=True)
def test_stopped_after_every_step(unbroken_and_recipe, monkeypatch):
    unbroken, recipe = unbroken_and_recipe
    resumed = run_stopped_at(recipe, [1] * 7, monkeypatch)
    assert differences(unbroken, resumed) == []


@pytest.mark.parametrize(
    ("unbroken_and_recipe", "call"),
    [
        ("plain", 5),
        ("an average of all epochs", 5),
        ("best, of a validation split, label noise", 6),
    ],  # 4 steps, then a batch of images of each split
    indirect=["unbroken_and_recipe"],
)
def test_stopped_in_an_evaluation(unbroken_and_recipe, call, monkeypatch):
    """The epoch is trained, but not evaluated: its evaluation is what the resumed run does."""
    unbroken, recipe = unbroken_and_recipe
    calls, agreed = 0, Stop.agreed

    def counted(self):
        nonlocal calls
        calls += self._entered
        return self._entered and (calls == call or agreed(self))

    with monkeypatch.context() as patched:
        patched.setattr(Stop, "agreed", counted)
        with pytest.raises(Stopped, match="saved in") as stopped:
            run(recipe, Console(quiet=True))
    assert stopped.value.checkpoint.name == "epoch_0000_step_000004"
    assert not (recipe.run_dir / "metrics.jsonl").exists()
    assert differences(unbroken, run(recipe, Console(quiet=True), resume=True)) == []


@pytest.mark.parametrize("unbroken_and_recipe", ["plain"], indirect=True)
def test_what_was_written_after_the_checkpoint_is_written_once(unbroken_and_recipe, monkeypatch):
    """As if killed: lines that a resume repeats are there, one of them torn."""
    unbroken, recipe = unbroken_and_recipe
    with stop_after(6, monkeypatch), pytest.raises(Stopped):
        run(recipe, Console(quiet=True))
    metrics = recipe.run_dir / "metrics.jsonl"
    (first,) = metrics.read_text().splitlines()
    again = first.replace('"epoch": 1', '"epoch": 2')
    metrics.write_text(f"{first}\n{again}\n{again[:40]}")
    resumed = run(recipe, Console(quiet=True), resume=True)
    assert differences(unbroken, resumed) == []
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    board = EventAccumulator(str(resumed / "tensorboard"))
    board.Reload()
    points = [(event.step, event.value) for event in board.Scalars("loss/total")]
    assert points == [(n + 1, pytest.approx(line["loss/total"])) for n, line in enumerate(lines)]


def test_a_finished_run_is_left_alone(recipe, console):
    finished = recipe(TWO)
    place = run(finished, console)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    assert run(finished, console, resume=True) == place
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    assert console.file.getvalue().endswith(f"{place} is finished: nothing to do\n")


def test_a_finished_run_of_another_recipe_is_not_taken_for_this_one(recipe, console):
    run(recipe(), console)
    with pytest.raises(ValueError, match=r"cannot resume.*\n  epochs: 1, now 2\n"):
        run(recipe(TWO), console, resume=True)


def test_where_nothing_is_to_resume_the_run_begins(recipe, console):
    place = run(recipe(TWO), console, resume=True)
    assert "note     nothing to resume: started from scratch\n" in console.file.getvalue()
    assert differences(run(recipe(TWO, name="other"), Console(quiet=True)), place) == []


def test_killed_between_the_last_epoch_and_the_export(recipe, console, monkeypatch):
    """Training is not repeated: the student is exported from the last checkpoint."""
    unbroken = run(recipe(TWO, name="unbroken"), Console(quiet=True))

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("kdx.run.run.finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run(recipe(TWO), console)
    assert not (recipe(TWO).run_dir / "student.safetensors").exists()
    with stop_after(1, monkeypatch):  # a single step would stop it
        resumed = run(recipe(TWO), console, resume=True)
    assert differences(unbroken, resumed) == []


def test_checkpoints_between_epochs(recipe, monkeypatch):
    every = recipe("epochs=2", "checkpoint_every=3", "keep_checkpoints=10")
    place = run(every, Console(quiet=True))
    names = sorted(path.name for path in (place / "checkpoints").iterdir())
    assert names == [
        "epoch_0000_step_000003", "epoch_0001", "epoch_0001_step_000003", "epoch_0002",
    ]  # fmt: skip
