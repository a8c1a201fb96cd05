"""What is exported is what was certified, and what cannot be is refused before training."""

import json

import pytest
import torch

from kdx.commands.compress import compress
from kdx.models import weights
from kdx.report.summary import read_summary
from kdx.run.run import run
from kdx.training.job import build
from kdx.util.errors import CertificateError
from tests.unit.kdx.run.test_run import accuracy
from tests.unit.runs import SGD


@pytest.mark.parametrize(
    ("calls", "message"),
    [  # 1 to 3 are before training, 4 is exported, 5 in float64, 6 once more
        ([4], "differ in float32.*not repeatable: fc2.weight differed"),
        ([5], "differ in float64"),
        ([6], "plain: restoring is not repeatable: fc2.weight differed at the second call"),
    ],
)
def test_a_restore_that_differs_from_call_to_call_exports_nothing(recipe, console, calls, message):
    recipe = recipe(f"student.transforms=[{{use: tests.toys.Fickle, calls: {calls}}}]", SGD)
    with pytest.raises(CertificateError, match=message):
        run(recipe, console)
    assert not list(recipe.run_dir.glob("*.safetensors"))


def test_an_error_on_other_images_than_the_certified_is_found(recipe, console, monkeypatch):
    black = [torch.zeros(2, 1, 32, 32)]  # only biases matter
    monkeypatch.setattr("kdx.run.finish.spread_images", lambda views: black)
    wrong = "{use: tests.toys.Fickle, layer: conv1, calls: [4, 5, 6]}"
    message = r"plain: compact and trained network differ in top1 of all images: 0\.\d+ trained, 0"
    recipe = recipe(f"student.transforms=[{wrong}]", SGD, "data.limit=512")
    with pytest.raises(CertificateError, match=message):
        run(recipe, console)


@pytest.mark.parametrize(
    ("value", "message"), [(1, "differ in float32"), (torch.nan, "NaN or Inf .* nothing was expor")]
)
def test_what_is_written_wrongly_is_not_exported(recipe, console, monkeypatch, value, message):
    def spoilt(network, path, **about):
        with torch.no_grad():
            network.fc2.bias[0] += value
        return saved(network, path, **about)

    saved, recipe = weights.save, recipe(SGD)
    monkeypatch.setattr("kdx.run.finish.weights.save", spoilt)
    with pytest.raises(CertificateError, match=message):
        run(recipe, console)
    assert not list(recipe.run_dir.glob("*.safetensors"))


def test_a_student_whose_state_dict_is_not_all_is_refused_before_training(recipe, console):
    recipe = recipe("student={use: tests.toys.secretive}", SGD)
    with pytest.raises(ValueError, match=r"^student: its state dict does not hold all .* built ag"):
        run(recipe, console)
    assert not recipe.run_dir.exists()


@pytest.mark.parametrize("norm", ["weight", "spectral", "none"])
@pytest.mark.parametrize("expanded", [False, True])
def test_students_that_keep_tensors_of_their_last_forward_can_be_trained(
    recipe, console, norm, expanded
):
    transform = "{use: expand.ExpandNet, linear: true, rate: 2, classifier: expand}"
    more = [f"student.transforms=[{transform}]"] * expanded
    student = f"student={{use: tests.toys.keeping, norm: {norm}}}"
    recipe = recipe(student, *more, SGD, "data.limit=128")
    run_dir = run(recipe, console)
    certificate = json.loads((run_dir / "certificate.json").read_text())
    assert certificate["holds"]
    job = build(recipe)
    weights.load(job.compact, run_dir)
    assert accuracy(job.compact, job) == pytest.approx(read_summary(run_dir).test["top1"])
    checkpoint = run_dir / "checkpoints" / "epoch_0001"
    assert not compress(checkpoint, run_dir / "a.safetensors", plugins=["tests"]).problems
