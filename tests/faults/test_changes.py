"""What changed since a run was stopped is refused, or said where it is harmless."""

import pytest
from rich.console import Console

from kdx.data.sets import TABLE
from kdx.run.resume import Changes, compare
from kdx.run.run import run
from kdx.util.errors import Stopped
from tests.faults.resuming import stop_after

EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl, rate: 2}]"
REFUSED = {
    "optimizer.lr=0.02": ["optimizer.lr: 0.01, now 0.02"],
    "data.batch_size=8": ["data.batch_size: 16, now 8", "steps an epoch: was 4, now 8"],
    "data.limit=48": ["data: train images or labels changed", "steps an epoch: was 4, now 3"],
    "data.label_noise=0.5": [
        "data.label_noise: 0.0, now 0.5",
        "data: train images or labels changed",
    ],
    "data.augment.flip=true": ["data.augment.flip: false, now true"],
    "seed=1": ["seed: 0, now 1", "data: train images or labels changed"],
    "epochs=4": ["epochs: 2, now 4"],
    "accumulate=2": ["accumulate: 1, now 2"],
    "student.transforms.0.rate=3": [
        "student.transforms.0.rate: 2, now 3",
        "student: conv2.factors.0.weight was [16, 8, 1, 1], now [24, 8, 1, 1]",
    ],
    "losses.0.label_smoothing=0.1": ["losses.0.label_smoothing: absent, now 0.1"],
    "precision=bf16": ['precision: null, now "bf16"', "precision: was no, now bf16"],
}
ACCEPTED = {
    "log_every=7": "log_every: 50, now 7",
    "diagnose=7": "diagnose: 0, now 7",
    "data.workers=1": "data.workers: 0, now 1",
    "keep_checkpoints=5": "keep_checkpoints: 1, now 5",
    "threads=2": "threads: 1, now 2 (may round differently)",
}


@pytest.fixture
def stopped(recipe, monkeypatch):
    """Return a function: overrides to the recipe of a run that was stopped after two steps."""
    with stop_after(2, monkeypatch), pytest.raises(Stopped, match="saved in"):
        run(recipe(EXPAND, "epochs=2"), Console(quiet=True))
    return lambda *overrides: recipe(EXPAND, "epochs=2", *overrides)


def test_what_changes_the_run_is_refused_with_all_differences(stopped, console):
    before = {path: path.read_bytes() for path in stopped().run_dir.rglob("*") if path.is_file()}
    for override, said in REFUSED.items():
        with pytest.raises(ValueError, match=r"cannot resume: the configuration changed") as error:
            run(stopped(override), console, resume=True)
        lines = str(error.value).splitlines()
        for line in said:
            assert f"  {line}" in lines, (override, lines)
    after = {path: path.read_bytes() for path in stopped().run_dir.rglob("*") if path.is_file()}
    assert after == before


def test_what_is_harmless_is_accepted_and_said(stopped, console):
    run(stopped(*ACCEPTED), console, resume=True)
    said = console.file.getvalue()
    for line in ACCEPTED.values():
        assert f"note     changed: {line}\n" in said


def test_another_teacher_is_refused_however_it_is_named(recipe, teacher_run, console, monkeypatch):
    taught = ("epochs=2", "losses=[{use: kd}]")
    with stop_after(2, monkeypatch), pytest.raises(Stopped, match="saved in"):
        run(recipe(f"teacher={{use: smallnet, weights: {teacher_run}}}", *taught), console)
    moved = teacher_run.rename(teacher_run.with_name("moved"))
    try:
        same = recipe(f"teacher={{use: smallnet, weights: {moved}}}", *taught)
        with stop_after(1, monkeypatch), pytest.raises(Stopped, match="saved in"):
            run(same, console, resume=True)
    finally:
        moved.rename(teacher_run)
    monkeypatch.setattr("kdx.run.resume.digest_of_weights", lambda module: "other")
    with pytest.raises(ValueError, match=r"cannot resume.*\n  teacher: its weights changed\n"):
        run(recipe(f"teacher={{use: smallnet, weights: {teacher_run}}}", *taught), console,
            resume=True)  # fmt: skip


def test_the_number_of_processes_is_accepted_where_the_batches_stay_the_same():
    old = {"recipe": {}, "processes": 1, "steps an epoch": 4, "data": {}, "student": {}}
    same = compare(old, old | {"processes": 2, **dict.fromkeys(
        ("input", "classes", "teacher", "precision", "device", "threads", "torch"))})  # fmt: skip
    assert (same.refused, same.accepted) == ([], ["processes: 1, now 2 (may round differently)"])
    other = compare(old, old | {"processes": 2, "steps an epoch": 3, **dict.fromkeys(
        ("input", "classes", "teacher", "precision", "device", "threads", "torch"))})  # fmt: skip
    assert other.refused == ["steps an epoch: was 4, now 3"]


def test_a_checkpoint_from_before_there_was_a_key_was_trained_without():
    old = {"recipe": {}, "data": {}, "student": {}, **dict.fromkeys(
        ("input", "classes", "teacher", "precision", "device", "threads", "torch",
         "processes", "steps an epoch"))}  # fmt: skip
    now = {"data.label_noise": 0.0, "train_metrics": False}
    assert compare(old, old | {"recipe": now}) == Changes([], [])
    noisy = compare(old, old | {"recipe": {"data.label_noise": 0.5}})
    assert noisy.refused == ["data.label_noise: absent, now 0.5"]


def test_a_data_set_changed_between_runs_is_refused(stopped, console, monkeypatch):
    digits = TABLE["digits"]

    def changed():
        found = digits()
        found.train.images[:, 0, 2, 2] ^= 1
        return found

    monkeypatch.setitem(TABLE, "digits", changed)
    with pytest.raises(ValueError, match=r"\n  data: train images or labels changed\n"):
        run(stopped(), console, resume=True)
