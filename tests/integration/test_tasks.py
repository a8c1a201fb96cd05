"""Detection and segmentation by the same loop, certificate and tools as classification."""

import json

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from kdx.commands.compress import compress
from kdx.commands.evaluate import evaluate
from kdx.exporting.export import export
from kdx.models import weights
from kdx.models.networks import check_names
from kdx.recipe import load
from kdx.report.summary import read_summary
from kdx.run.run import run
from kdx.training.job import build
from kdx_lab.scenes import ScenePlan, write_scenes
from tests.faults.resuming import differences, run_stopped_at
from tests.integration.test_processes import distill
from tests.unit.kdx_lab.scenes.conftest import write_items

DETECTION = """\
data:
  use: voc
  root: {root}
  train: 2007_train
  classes: [tshirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, boot]
  anchors: [[0.5, 0.5], [1, 1.5]]
  size: 64
  batch_size: 8
  augment: {{flip: true, scale: [0.8, 1.25], color: 0.2, sizes: [32, 64]}}
teacher: {{use: yolo_lite, allow_chance: true}}
student: {{use: yolo_lite, transforms: [{{use: expand.ExpandNet, preset: yolo_lite_cl, rate: 2}}]}}
losses: [{{use: yolo}}, {{use: yolo_kd, weight: 0.5}}]
optimizer: {{use: SGD, lr: 0.001}}
epochs: 2
"""
SEGMENTATION = """\
data:
  use: cityscapes
  root: {root}
  test: test
  size: 64
  batch_size: 8
  augment: {{flip: true, scale: [0.8, 1.25], window: 32}}
teacher: {{use: unet, widths: [4, 8], allow_chance: true}}
student:
  use: unet
  widths: [4, 8]
  transforms: [{{use: expand.ExpandNet, preset: unet_cl, rate: 2, init: scaled}}]
losses: [{{use: cross_entropy}}, {{use: kd, weight: 0.5}}]
optimizer: {{use: SGD, lr: 0.05}}
epochs: 2
"""
RECIPES = {"detection": DETECTION, "segmentation": SEGMENTATION}
HEADLINES = {"detection": "map", "segmentation": "miou"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with scenes of 64 pixels, and a recipe for each task."""
    folder = tmp_path_factory.mktemp("tasks")
    write_items(folder / "items")
    plan = ScenePlan(images=(28, 2, 10), size=(64, 64), objects=(0, 3))
    console = Console(quiet=True)
    write_scenes(folder / "scenes", plan, root=str(folder / "items"), console=console)
    for task, text in RECIPES.items():
        (folder / f"{task}.yaml").write_text(text.format(root=folder / "scenes"))
    return folder


def recipe(place, task, name):
    return load(place / f"{task}.yaml", [f"name={name}"], output_root=place / "runs")


@pytest.fixture(scope="module", params=RECIPES)
def finished(place, request):
    """Return a task, and a run of its recipe from beginning to end."""
    task = request.param
    return task, run(recipe(place, task, f"{task}/whole"), Console(quiet=True))


def test_a_run_leaves_a_certified_student_and_pictures(finished):
    task, run_dir = finished
    certificate = json.loads((run_dir / "certificate.json").read_text())
    assert certificate["holds"]
    assert (
        certificate["predictions"]
        == {"detection": 10 * 2 * 2 * 2, "segmentation": 10 * 64**2}[task]
    )
    assert certificate["predictions_changed"] == 0
    summary = read_summary(run_dir)
    assert summary.primary_metric == HEADLINES[task]
    assert summary.test == pytest.approx(certificate["metrics"]["trained"], abs=1e-6)
    pictures = sorted((run_dir / "pictures").iterdir())
    assert len(pictures) == 8
    report = (run_dir / "report.md").read_text()
    assert all(f"(pictures/{picture.name})" in report for picture in pictures)
    assert summary.headings[HEADLINES[task]] in report


def test_tools_take_the_student_and_the_checkpoint(finished, tmp_path):
    _, run_dir = finished
    found = evaluate(run_dir)
    assert found.metrics == pytest.approx(read_summary(run_dir).test, abs=1e-6)
    compressed = tmp_path / "student.safetensors"
    compress(run_dir / "checkpoints" / "epoch_0002", compressed)
    exported = load_file(run_dir / "student.safetensors")
    for name, value in load_file(compressed).items():
        torch.testing.assert_close(value, exported[name])


@pytest.mark.long
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_an_export_answers_as_the_student(finished, to):
    task, run_dir = finished
    row = export(run_dir, to).row
    assert row["images"] == 10
    assert row["predictions_changed"] == 0 < row["predictions"]
    first = HEADLINES[task]
    assert row["metrics"]["export"][first] == pytest.approx(row["metrics"]["compact"][first])


DENSE = {
    "segmentation": [
        "kd",
        "dist",
        "cwd",
        *(f"{use}, student_layer: up.0, teacher_layer: up.0" for use in ("at", "cwd", "hint")),
        "mgd, mask: 0.75, over: positions, student_layer: up.0, teacher_layer: up.0",
    ],
    "detection": [
        *(f"{use}, student_layer: backbone, teacher_layer: backbone" for use in ("cwd", "hint")),
        "mgd, mask: 0.65, over: positions, student_layer: backbone, teacher_layer: backbone",
    ],
}


@pytest.mark.parametrize(
    ("task", "term"), [(task, term) for task, terms in DENSE.items() for term in terms]
)
def test_a_step_with_a_loss_for_dense_tasks(place, task, term):
    """Teacher and student differ, so each is above 0 and has a gradient for the student."""
    job = build(load(place / f"{task}.yaml", [f"losses.1={{use: {term}, name: term}}"]))
    (stage,) = job.stages
    objective = stage.objective.train()
    objective.tapped.attach()
    images, targets, _ = job.train_views.checked([(0, index) for index in range(4)])
    _, values = objective(images, targets, {"teacher": job.teachers["teacher"](images)})
    assert values["term"] > 0
    values["term"].backward()
    grads = [p.grad for p in job.student.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
    assert any(grad.abs().sum() > 0 for grad in grads)


@pytest.mark.parametrize(("task", "kind"), [("detection", "Box"), ("segmentation", "Mask")])
def test_label_noise_needs_one_label_an_image(place, task, kind):
    noisy = load(place / f"{task}.yaml", ["data.label_noise=0.5"])
    message = rf"^data\.label_noise: 0\.5 needs one label .* which {kind}Images does"
    with pytest.raises(ValueError, match=message):
        build(noisy)


def test_weights_of_other_anchors_are_refused(place):
    job, path = build(recipe(place, "detection", "anchors")), place / "student.safetensors"
    weights.save(job.compact, path, input=job.data.input, classes=job.classes, extra=job.about)
    changes = ["data.anchors=[[2, 2], [1, 1.5]]", f"teacher.weights={path}"]
    other = load(place / "detection.yaml", changes)
    said = r"trained with \[\[0.5, 0.5\], \[1.0, 1.5\]\], the data set has \[\[2.0"
    with pytest.raises(ValueError, match=f"^teacher.weights: anchors mismatch: .* was {said}"):
        build(other)
    with pytest.raises(ValueError, match=f"^student: anchors mismatch: .* was {said}"):
        evaluate(path, place / "detection.yaml", overrides=changes[:1])


def test_weights_of_other_classes_are_refused(place):
    """Those of the same names in another order; other names may mean the same."""
    job, path = build(recipe(place, "detection", "classes")), place / "classes.safetensors"
    weights.save(job.compact, path, input=job.data.input, classes=job.classes, extra=job.about)
    turned, renamed = [*job.data.classes[1:], job.data.classes[0]], list("abcdefghij")
    with pytest.raises(ValueError, match=r"^student: class order mismatch: .* tshirt, trouser"):
        check_names(path, turned, "student")
    (note,) = check_names(path, renamed, "student")
    assert note.startswith("student: class names differ: ")


def test_a_network_takes_windows_and_the_whole(place):
    odd = load(place / "segmentation.yaml", ["data.size=33"])
    with pytest.raises(ValueError, match=r"student: forward failed on images of \[3, 33, 33\]"):
        build(odd)


LIST = (
    "data.augment=[{use: RandomZoomOut, side_range: [1, 2]}, {use: RandomHorizontalFlip}, "
    "{use: ColorJitter, brightness: 0.3}, {use: RandomResizedCrop, scale: [0.5, 1]}]"
)


@pytest.mark.long
@pytest.mark.parametrize("task", RECIPES)
def test_a_resumed_run_with_a_list_is_one_that_never_stopped(task, place, monkeypatch):
    whole, stopped = (
        load(place / f"{task}.yaml",
             [LIST, f"name={task}/{name}", f"data.workers={workers}", "threads=1"],
             output_root=place / "runs")
        for name, workers in (("list", 0), ("list_resumed", 2))
    )  # fmt: skip
    run_dir = run(whole, Console(quiet=True))
    assert differences(run_dir, run_stopped_at(stopped, [2, 3], monkeypatch)) == []


def test_a_resumed_run_is_one_that_never_stopped(finished, place, monkeypatch):
    task, run_dir = finished
    resumed = run_stopped_at(recipe(place, task, f"{task}/resumed"), [2, 3], monkeypatch)
    assert differences(run_dir, resumed) == []


@pytest.mark.long
def test_two_processes_segment_as_one(place):
    """Batches of 8 and a last one of 4; the test images are five for each process."""
    one, two = (distill(place, n, recipe="segmentation.yaml") for n in (1, 2))
    summaries = [read_summary(run_dir) for run_dir in (one, two)]
    assert [summary.environment["processes"] for summary in summaries] == [1, 2]
    assert summaries[0].test == pytest.approx(summaries[1].test, abs=1e-4)
    students = [load_file(run_dir / "student.safetensors") for run_dir in (one, two)]
    for name, tensor in students[0].items():
        assert (tensor - students[1][name]).abs().max() < 1e-5


@pytest.mark.long
def test_two_processes_detect(place):
    """What both found together is what the student finds alone."""
    run_dir = distill(place, 2, recipe="detection.yaml")
    summary = read_summary(run_dir)
    assert summary.environment["processes"] == 2
    found = evaluate(run_dir)
    assert found.metrics == pytest.approx(summary.test, abs=1e-4)
