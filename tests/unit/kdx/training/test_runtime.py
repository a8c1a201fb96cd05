import json
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from kdx.data.counter import permutation
from kdx.training.job import build
from kdx.training.log import RunLog
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import EpochStats, StageRunner
from kdx.training.trainer import fit as train
from kdx.util.errors import TrainingError

PLAIN = "student.use=tests.toys.plain"
SGD = "optimizer={use: SGD, lr: 0.1}"
CROPPED = "data.augment={crop: 2, flip: true}"


@pytest.fixture
def fit(recipe, tmp_path, console):
    """Return a function: overrides to (job, fitted, the lines of metrics.jsonl)."""

    def fit(*overrides, steps=None):
        job = build(recipe(*overrides))
        runtime = Runtime(job, accelerator_for(job))
        directory = job.recipe.run_dir
        directory.mkdir(parents=True, exist_ok=True)
        log = RunLog(directory, console, epochs=9)
        try:
            progress = train(runtime, log)
        finally:
            log.close()
        lines = (directory / "metrics.jsonl").read_text().splitlines()
        return job, progress, [json.loads(line) for line in lines]

    return fit


def first_step(recipe, *overrides):
    """Return the student before and after one step, and the runner that took it."""
    job = build(recipe(*overrides))
    before = deepcopy(job.student)
    runtime = Runtime(job, accelerator_for(job))
    runner = StageRunner(runtime, job.stages[0])
    runner.step(next(iter(runtime.loader)), runtime.batches.size(0), EpochStats())
    return before, job.student, runner


def largest_difference(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return max((x - y).abs().max().item() for x, y in pairs)


def test_an_epoch_is_that_of_a_loop_written_by_hand(recipe, fit):
    what = (SGD, CROPPED, "data.limit=58")  # the last batch has 10 samples
    job = build(recipe(*what))
    student, start = job.student.train(), deepcopy(job.student)
    order, losses = permutation(0, 0, 58).tolist(), []
    for at in range(0, 58, 16):
        images, labels, _ = job.train_views.__getitems__([(0, i) for i in order[at : at + 16]])
        loss = F.cross_entropy(student(images), labels)
        student.zero_grad()
        loss.backward()
        losses += [loss.item()] * len(labels)
        with torch.no_grad():
            for parameter in student.parameters():
                parameter -= 0.1 * parameter.grad
    trained, progress, (line,) = fit(*what)
    assert largest_difference(trained.student, start) > 1e-2
    assert largest_difference(trained.student, student) < 1e-6
    assert line["loss/total"] == line["loss/cross_entropy"] == pytest.approx(sum(losses) / 58)
    assert progress.images == 58


def test_accumulation_changes_nothing_but_rounding(fit):
    once = fit(PLAIN, SGD, "epochs=2", "data.limit=58")
    for parts in (4, 100):
        again = fit(PLAIN, SGD, "epochs=2", "data.limit=58", f"accumulate={parts}")
        assert 0 < largest_difference(once[0].student, again[0].student) < 1e-6
        assert once[2][1]["loss/total"] == pytest.approx(again[2][1]["loss/total"], rel=1e-6)


@pytest.mark.parametrize("parts", [1, 4])
def test_gradients_are_clipped_to_their_norm(recipe, parts):
    sgd = "optimizer={use: SGD, lr: 1}"
    before, after, _ = first_step(recipe, PLAIN, sgd, "clip=1e-3", f"accumulate={parts}")
    moved = [a - b for a, b in zip(after.parameters(), before.parameters(), strict=True)]
    norm = torch.stack([m.norm() for m in moved]).norm().item()
    assert norm == pytest.approx(1e-3, rel=1e-2)


def test_gradients_below_the_bound_are_left_alone(recipe):
    free, clipped = (first_step(recipe, PLAIN, SGD, *clip)[1] for clip in ([], ["clip=1e6"]))
    assert largest_difference(free, clipped) == 0


def test_the_schedule_ends_with_the_run(fit):
    _, _, lines = fit(PLAIN, SGD, "schedule.use=cosine", "epochs=3", "data.limit=58")
    rates = [line["learning_rate"] for line in lines]
    # 12 steps; the last of each epoch are 3, 7 and 11 of 11.
    expected = [0.05 * (1 + torch.tensor(i / 11 * torch.pi).cos().item()) for i in (3, 7, 11)]
    assert rates == pytest.approx(expected, abs=1e-9)


def test_the_rate_is_set_for_every_group_of_parameters(recipe, tmp_path, console):
    job = build(recipe(PLAIN, SGD, "schedule={use: linear, end: 0.25}", "epochs=2"))
    runtime = Runtime(job, accelerator_for(job))
    runner = StageRunner(runtime, job.stages[0])
    log = RunLog(tmp_path, console, epochs=2)
    for epoch in range(2):
        runner.run(epoch, epoch, log)
    log.close()
    assert [group["lr"] for group in runner.optimizer.param_groups] == [pytest.approx(0.025)]


def test_terms_are_logged_plain_and_weighted(fit, teacher_run):
    losses = "losses=[{use: cross_entropy, weight: 0.5}, {use: kd, weight: 0.25, name: soft}]"
    _, _, (line,) = fit(losses, f"teacher={{use: smallnet, weights: {teacher_run}}}")
    assert line["weighted/cross_entropy"] == pytest.approx(0.5 * line["loss/cross_entropy"])
    assert line["weighted/soft"] == pytest.approx(0.25 * line["loss/soft"])
    weighted = line["weighted/cross_entropy"] + line["weighted/soft"]
    assert line["loss/total"] == pytest.approx(weighted)
    assert line["images_per_second"] == pytest.approx(64 / line["seconds"])


def test_the_teacher_stays_in_eval_mode_and_out_of_the_optimizer(recipe, teacher_run):
    teacher = f"teacher={{use: smallnet, weights: {teacher_run}}}"
    _, _, runner = first_step(recipe, teacher, "losses=[{use: kd}]")
    network = runner.runtime.job.teachers["teacher"].module
    runner.objective.train()
    runner.runtime.job.student.train()
    assert not any(module.training for module in network.modules())
    trained = {id(p) for group in runner.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in runner.objective.parameters()}
    assert trained.isdisjoint(map(id, network.parameters()))


def test_epochs_are_evaluated_as_often_as_the_recipe_says(fit):
    job, progress, lines = fit("epochs=4", "evaluate_every=3", "data.validation=32")
    assert [line["epoch"] for line in lines if "validation/top1" in line] == [3, 4]
    assert not any(name.startswith("test/") for line in lines for name in line)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    last = {name[11:]: v for name, v in lines[3].items() if name.startswith("validation/")}
    assert progress.last == last
    assert progress.best["top1"] == max(lines[i]["validation/top1"] for i in (2, 3))
    assert progress.best_epoch in (3, 4)
    assert (progress.epochs, progress.images) == (4, 4 * 64)
    assert len(job.splits.validation) == 32


def test_each_stage_has_its_own_losses_optimizer_and_epochs(fit):
    stages = (
        "stages=[{name: a, epochs: 2, losses: [{use: cross_entropy, name: hard}]},"
        " {name: b, optimizer: {use: AdamW, lr: 0.002}, schedule: {use: constant}}]"
    )
    _, progress, lines = fit(SGD, "schedule.use=linear", stages)
    assert [(line["epoch"], line["stage"]) for line in lines] == [(1, "a"), (2, "a"), (3, "b")]
    rates = [line["learning_rate"] for line in lines]
    assert rates == pytest.approx([0.1 * 4 / 7, 0, 0.002])
    assert ["loss/hard" in line for line in lines] == [True, True, False]
    assert progress.epochs == 3


def test_the_best_epoch_is_one_of_the_last_phase(fit):
    """An epoch of the nonlinear counterpart is not the student that the run hands back."""
    stages = (
        "stages=[{phase: nonlinear, epochs: 3, optimizer: {use: AdamW, lr: 0.02}},"
        " {phase: linear, epochs: 1, optimizer: {use: SGD, lr: 1.0}}]"  # far too large
    )
    transforms = "student.transforms=[{use: expand.ExpandNet, conv: cl, rate: 2, init: scaled}]"
    _, progress, lines = fit(transforms, stages, "data.limit=256")
    assert max(line["test/top1"] for line in lines[:3]) > lines[3]["test/top1"] + 0.2
    assert progress.best_epoch == 4
    assert progress.best == progress.last


def test_a_loss_that_is_not_a_number_ends_the_run(fit):
    said = r"loss 'cross_entropy': (nan|inf).* \(stage 'train'; step \d of epoch 1\)"
    with pytest.raises(TrainingError, match=said):
        fit("optimizer={use: SGD, lr: 1e30}")


def test_the_number_of_workers_changes_nothing(fit):
    alone = fit(CROPPED, "epochs=2")[0].student
    workers = fit(CROPPED, "epochs=2", "data.workers=2")[0].student
    assert largest_difference(alone, workers) == 0


def test_threads_are_shared_by_the_processes_of_a_machine(recipe, monkeypatch):
    job = build(recipe())
    monkeypatch.setattr("kdx.launch.cores.cores", lambda: 6)
    accelerator_for(job)
    assert torch.get_num_threads() == 6
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert accelerator_for(job).mixed_precision == "no"
    assert torch.get_num_threads() == 1


def test_the_recipe_sets_the_threads(recipe, monkeypatch):
    monkeypatch.setattr("kdx.launch.cores.cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    for asked, threads in (("threads=2", 2), ("threads=null", 4), ("threads=1", 1)):
        accelerator_for(build(recipe(asked)))
        assert torch.get_num_threads() == threads


def test_the_recipe_sets_the_precision(recipe):
    assert accelerator_for(build(recipe("precision=bf16"))).mixed_precision == "bf16"
    assert accelerator_for(build(recipe("precision=no"))).mixed_precision == "no"


def test_half_precision_that_the_cpu_lacks_is_refused(recipe):
    with pytest.raises(
        ValueError, match=r"precision: 'fp16' is not supported on the CPU: use 'bf16'"
    ):
        accelerator_for(build(recipe("precision=fp16")))


def test_what_a_loss_learned_goes_on_in_the_next_stage(fit, teacher_run):
    """Where name, arguments and teacher are the same; its connector would be new otherwise."""
    hint = "{use: hint, student_layer: conv1, teacher_layer: conv1, weight: 1"
    student = "student={use: smallnet, kernel_size: 3}"
    stages = (
        f"stages=[{{name: a, losses: [{hint}, name: x}}, {hint}, name: y}}]}}, "
        f"{{name: b, losses: [{hint}, name: x}}, {hint}, name: z}}]}}]"
    )
    teacher = f"teacher={{use: smallnet, weights: {teacher_run}}}"
    job, _, _ = fit(teacher, student, stages, "optimizer.lr=1e-9")
    first, second = (stage.objective.adaptors for stage in job.stages)
    torch.testing.assert_close(first["x"].regressor.weight, second["x"].regressor.weight)
    assert (first["y"].regressor.weight - second["z"].regressor.weight).abs().max() > 0.01


@pytest.mark.parametrize(("network", "last"), [("wide", True), ("narrow", False)])
def test_images_are_channels_last_unless_onednn_would_crash(recipe, network, last):
    widths = {"wide": "[16, 16, 32, 64]", "narrow": "[8, 8, 16, 32]"}[network]
    student = f"student={{use: cifar_resnet, depth: 8, widths: {widths}}}"
    job = build(recipe(student))
    assert Runtime(job, accelerator_for(job)).channels_last is last
    job = build(recipe(student, "channels_last=true"))
    assert Runtime(job, accelerator_for(job)).channels_last
