"""What a teacher is fed is said, and another normalisation that serves it better is named."""

import re

import pytest
import torch
from torch import nn

from kdx.commands.plan import dry_run
from kdx.data.sets.digits import digits
from kdx.models.teacher import Teacher
from kdx.protocols import InputSpec
from kdx.run.run import run
from kdx.run.teacher_input import Right, better_input, seen_by
from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for
from tests.unit.runs import contents

KD = "losses=[{use: kd}]"
OTHER = "teacher.input={mean: [0.9], std: [0.05]}"


class Dark(nn.Module):
    """Knows the sum of its image's pixels, if they are normalised by 0.5: classes of a table."""

    def __init__(self, sums, labels):
        super().__init__()
        self.sums, self.labels = sums, labels

    def forward(self, images):
        pixels = (images * 0.5 + 0.5).double().flatten(1).sum(1)
        nearest = (pixels[:, None] - self.sums).abs().argmin(1)
        return nn.functional.one_hot(self.labels[nearest], 10).float()


def said(console, begin):
    return [line for line in console.file.getvalue().splitlines() if line.startswith(begin)]


def test_a_run_and_a_dry_run_say_what_the_teacher_sees(recipe, console, tmp_path, teacher_run):
    spec = digits().input
    numbers = (
        f"sees 1 x {spec.size} x {spec.size}, mean ({spec.mean[0]:.4g}), std ({spec.std[0]:.4g})"
    )
    torch.save(contents(teacher_run), tmp_path / "bare.pth")
    bare = f"{tmp_path}/bare.pth"
    for file, whose in (
        (teacher_run, "of its weights"),
        (bare, "the data's, as those of the teacher are"),
    ):
        taught = recipe(f"teacher={{use: smallnet, weights: {file}}}", KD)
        run(taught, console, overwrite=True)
        assert f"top-1 on 64 test images; {numbers}: {whose}" in said(console, "teacher  ")[-1]
        dry_run(taught, console)
        assert said(console, "teacher sees")[-1].startswith(f"teacher {numbers}: {whose}")
    dry_run(recipe(f"teacher={{use: smallnet, weights: {teacher_run}}}", KD, OTHER), console)
    told = "mean (0.9), std (0.05): mean and std of teacher.input; the rest of its weights"
    assert said(console, "teacher sees")[-1].endswith(told)


def test_another_normalisation_is_named_where_it_is_better(recipe, console, teacher_run):
    teacher = f"teacher={{use: smallnet, weights: {teacher_run}}}"
    allowed = "teacher.allow_chance=true"
    run(recipe(teacher, KD, OTHER, allowed), console)
    (note,) = said(console, "note     teacher.input: normalised by")
    share = float(re.search(r"by .*?, ([\d.]+)% instead of", note)[1])
    run(recipe(teacher, KD, name="own"), console)
    assert share > 30
    assert "is right on 64 images" in note
    assert "set teacher.input: {mean: [" in note
    assert said(console, "note     teacher.input") == [note]  # not for the teacher as trained


@pytest.fixture
def runtime(recipe):
    job = build(recipe("data.limit={train: 64, test: 360}"))
    return Runtime(job, accelerator_for(job))


def judged(runtime, own, module=None, **how):
    """Return what is said of a teacher that was trained with 0.5, fed as `own`."""
    source, given = runtime.job.splits.test, runtime.job.data.input
    if module is None:
        views = torch.stack([source.view(i, given, None)[0] for i in range(len(source))])
        module = Dark((views.double() / 255).flatten(1).sum(1), source.labels)
    teacher = Teacher(module, own=own or given, given=given, **how)
    right = Right(len(source), 10)
    runtime.evaluate(teacher, source, [right])
    return better_input(runtime, teacher, source, right.gather(runtime), "teacher")


def test_a_teacher_trained_with_one_half(runtime):
    given = runtime.job.data.input
    half = InputSpec(1, given.size, (0.5,), (0.5,))
    note = judged(runtime, None)
    assert re.match(
        r"teacher\.input: normalised by 0\.5, \d\d\.\d\d% instead of .* is right on 360 images, "
        r"\d+\.\d standard errors more\. If .* teacher\.input: {mean: \[0\.5\], std: \[0\.5\]}$",
        note,
    )
    assert float(re.search(r"([\d.]+)%", note)[1]) > 90
    assert judged(runtime, half) is None
    assert judged(runtime, None, is_known=True) is None


def test_a_teacher_to_which_it_makes_no_difference(runtime):
    torch.manual_seed(0)
    spec = runtime.job.data.input
    same = nn.Sequential(nn.Flatten(), nn.LayerNorm(spec.size**2), nn.LazyLinear(10))
    same(torch.zeros(1, *spec.shape))
    assert judged(runtime, None, same) is None


def test_shares_of_pixels_and_of_images():
    right = Right(3, 2)
    logits = torch.tensor([[[3.0, 0, 0, 3]], [[0, 3.0, 3, 0]]]).movedim(0, 1)[None]  # [1, 2, 1, 4]
    logits = logits.reshape(1, 2, 1, 4)
    right(logits, torch.tensor([[[0, 0, 1, -100]]]), torch.tensor([2]))
    assert right.shares.tolist() == pytest.approx([0, 0, 2 / 3])
    assert right.seen.tolist() == [0, 0, 1]
    right(torch.eye(2), torch.tensor([0, 0]), torch.tensor([1, 0]))
    assert right.shares.tolist() == pytest.approx([0, 1, 2 / 3])
    boxes = Right(3, 2)
    boxes(torch.zeros(1, 7, 2, 2), torch.zeros(1, 3, 6), torch.tensor([0]))
    assert not boxes.seen.any()


def test_colours_are_tried_by_channel():
    colour = InputSpec(3, 8, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    teacher = Teacher(nn.Identity(), own=colour, given=colour)
    assert seen_by(teacher) == "sees 3 x 8 x 8, mean (0.1, 0.2, 0.3), std (1, 1, 1): the data's"
    own = teacher.seeing(InputSpec(3, 8, (0.5,) * 3, (0.5,) * 3))
    assert own.own != teacher.own
    assert own.module is teacher.module
