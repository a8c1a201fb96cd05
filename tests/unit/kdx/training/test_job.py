"""A job: what a recipe builds, as a run needs it."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from kdx.models import weights
from kdx.models.networks import build_student, has_weights
from kdx.models.students import SmallNet
from kdx.models.transforms import restore
from kdx.training.job import build, build_data
from tests.toys import Rescale

EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl}]"
RESCALE = "student.transforms=[{use: tests.toys.Rescale}]"


def values(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_a_job_has_everything_that_a_run_needs(recipe):
    job = build(recipe(EXPAND, "data.validation=32", "data.augment.crop=2"))
    assert job.classes == 10
    assert [len(s) for s in (job.splits.train, job.splits.validation, job.splits.test)] == [
        64,
        32,
        64,
    ]
    assert type(job.compact) is SmallNet
    assert not job.teachers
    assert [stage.stage.name for stage in job.stages] == ["train"]
    assert list(job.stages[0].unused) == []
    assert job.train_views.augment.crop == 2
    assert len(job.train_views) == 64
    counts = job.rehearsal.parameters
    assert counts["compact"] == sum(p.numel() for p in job.compact.parameters()) == 14906
    assert counts["trained"] == sum(p.numel() for p in job.student.parameters())
    assert list(restore(job.student, job.transforms).state_dict()) == list(job.compact.state_dict())


def test_label_noise_is_in_the_part_that_is_trained_on_alone(recipe):
    what = ("data.validation=32", "data.limit=48")
    data, clean = build_data(recipe(*what))
    noted, noisy = build_data(recipe(*what, "data.label_noise=0.5"))
    wrong = int((noisy.train.labels != clean.train.labels).sum())
    assert 12 <= wrong <= 32  # 45% of 48, within three standard deviations
    for part in ("validation", "test"):
        assert torch.equal(getattr(noisy, part).labels, getattr(clean, part).labels)
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(noisy, part).images, getattr(clean, part).images)
    assert torch.equal(noted.train.labels, data.train.labels)
    assert not data.notes
    (note,) = noted.notes
    assert f"of 48 training images were drawn at random (label_noise 0.5): {wrong} of them" in note


def test_the_seed_decides_the_weights(recipe):
    first, again, other = (build(recipe(EXPAND, f"seed={n}")).student for n in (3, 3, 4))
    assert same(values(first), values(again))
    assert not same(values(first), values(other))


def test_building_leaves_the_students_statistics_at_their_start(recipe):
    student = build(recipe(EXPAND, "stages=[{phase: nonlinear}, {phase: linear}]")).student
    assert student.bn1.num_batches_tracked == 0
    assert torch.equal(student.bn1.running_var, torch.ones(8))


def test_a_student_starts_from_weights(recipe, teacher_run):
    recipe = recipe(f"student.weights={teacher_run}")
    student = build_student(recipe, build_data(recipe)[0])
    other = build_student(recipe, build_data(recipe)[0])
    assert same(values(student), values(other))
    weights.load(fresh := SmallNet(in_channels=1), teacher_run)
    assert same(values(student), values(fresh))


def test_transforms_are_restored_last_first():
    class Marks:
        def __init__(self, mark):
            self.mark = mark

        def restore(self, student):
            return nn.Sequential(*student, nn.Flatten(self.mark))

    transforms = [Marks(1), Marks(2)]
    restored = restore(nn.Sequential(), transforms)  # pyright: ignore[reportArgumentType]
    assert [layer.start_dim for layer in restored] == [2, 1]


def test_two_transforms_stack(recipe):
    job = build(
        recipe("student.transforms=[{use: expand.ExpandNet, conv: cl}, {use: tests.toys.Rescale}]")
    )
    names = set(job.student.state_dict())
    assert {"conv2.factors.0.weight", "fc2.scale"} < names
    assert job.rehearsal.problems == []


def test_phases_are_entered_stage_by_stage(recipe):
    job = build(recipe(RESCALE, "stages=[{phase: fixed}, {phase: free}]"))
    assert "student.fc2.scale" not in job.stages[0].unused
    job.enter("fixed")
    assert not job.student.fc2.scale.requires_grad
    job.enter(None)
    assert not job.student.fc2.scale.requires_grad
    job.enter("free")
    assert job.student.fc2.scale.requires_grad


def test_a_first_stage_without_a_phase_trains_what_the_transform_made(recipe):
    job = build(recipe(RESCALE, "stages=[{name: first}, {phase: fixed}]"))
    job.enter(job.stages[0].stage.phase)
    assert job.student.fc2.scale.requires_grad


def test_a_teacher_is_built_for_the_input_it_was_trained_with(recipe, teacher_run):
    teacher = f"teacher={{use: smallnet, weights: {teacher_run}}}"
    job = build(recipe("data.size=40", teacher, "losses=[{use: kd}]"))
    assert job.teachers["teacher"].own == weights.read_spec(teacher_run)
    assert (job.teachers["teacher"].own.size, job.teachers["teacher"].given.size) == (32, 40)
    assert job.teachers["teacher"].given == job.data.input


def test_a_recipe_may_say_what_a_teacher_takes(recipe):
    teacher = "teacher={use: smallnet, input: {mean: [0.1], std: [0.2], size: 40}, image_size: 40}"
    own = build(recipe(teacher, "losses=[{use: kd}]")).teachers["teacher"].own
    assert (own.channels, own.size, own.mean, own.std) == (1, 40, (0.1,), (0.2,))


def test_a_dry_run_needs_no_teacher_weights(recipe):
    recipe = recipe("teacher={use: smallnet, weights: runs/absent}", "losses=[{use: kd}]")
    assert build(recipe, teacher_weights=False).teachers
    with pytest.raises(FileNotFoundError, match=r"runs/absent: no such file or run directory"):
        build(recipe)


@pytest.mark.parametrize("read", ["logits", "features"])
def test_a_plugins_loss_that_reads_the_teacher_justifies_it(recipe, read):
    losses = f"losses=[{{use: tests.toys.Conditional, read: {read}}}]"
    assert build(recipe(losses, "teacher.use=smallnet")).stages[0].objective.reads == ["teacher"]


def test_one_stage_that_reads_the_teacher_is_enough(recipe):
    stages = "stages=[{name: alone}, {name: taught, losses: [{use: kd}]}]"
    job = build(recipe(stages, "teacher.use=smallnet"))
    assert [stage.objective.reads for stage in job.stages] == [[], ["teacher"]]


def test_has_weights(tmp_path, teacher_run):
    assert has_weights(None)
    assert has_weights(str(teacher_run))
    assert has_weights(str(teacher_run / "student.safetensors"))
    assert not has_weights(str(tmp_path))
    assert not has_weights(str(tmp_path / "absent.pth"))


def test_the_toy_is_right_until_it_is_trained():
    torch.manual_seed(0)
    transform = Rescale(fold=False)
    student = transform.apply(SmallNet(in_channels=1)).eval()
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(transform.restore(student)(images), student(images))
    trained = deepcopy(student)
    with torch.no_grad():
        trained.fc2.scale.add_(0.5)
    assert not torch.allclose(transform.restore(trained)(images), trained(images))


def test_losses_read_channels_wherever_they_are(recipe):
    hint = "losses=[{use: hint, student_layer: conv3, teacher_layer: map}]"
    loss = (
        build(recipe("teacher={use: tests.toys.ChannelsLast}", hint)).stages[0].objective.terms[0]
    )
    assert loss.loss.state_dict()["regressor.weight"].shape == (6, 32, 1, 1)
