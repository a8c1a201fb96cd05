"""Options that make a run faster, and what they may not change."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from kdx.commands.plan import dry_run
from kdx.data import Batch
from kdx.run.run import run
from kdx.training.job import build
from kdx.training.optimizers import build_optimizer
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import EpochStats, StageRunner

EXPANDED = "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true}]"


def trained(recipe, *overrides: str) -> dict[str, torch.Tensor]:
    """The student's state after three steps."""
    job = build(recipe(EXPANDED, *overrides))
    runtime = Runtime(job, accelerator_for(job))
    runtime.compile()
    runner = StageRunner(runtime, job.stages[0])
    for step, batch in enumerate(runtime.loader):
        runner.step(batch, runtime.batches.size(step), EpochStats())
    evaluation = runtime.evaluate(job.student, job.splits.test)
    assert 0 <= evaluation.metrics["top1"] <= 1
    return deepcopy(job.student.state_dict())


def largest_difference(a, b) -> float:
    assert a.keys() == b.keys()
    return max((a[k].double() - b[k].double()).abs().max().item() for k in a)


def test_channels_last_trains_the_same_student(recipe):
    assert (
        largest_difference(
            trained(recipe, "channels_last=false"), trained(recipe, "channels_last=true")
        )
        < 1e-5
    )


def test_images_are_channels_last_where_asked(recipe):
    for asked in ("true", "false", "null"):
        job = build(recipe(f"channels_last={asked}", "data.channels=3"))
        runtime = Runtime(job, accelerator_for(job))
        images = runtime.to_device(torch.randn(4, 3, 8, 8))
        is_last = images.is_contiguous(memory_format=torch.channels_last)
        assert is_last == (asked != "false")  # the default of the CPU
        assert runtime.to_device(images, size=6).shape == (4, 3, 6, 6)


def test_a_compiled_run_trains_the_same_student(recipe, monkeypatch):
    """By the backend that needs no C++ compiler; what kdx does is the same for all."""
    compiled: list[nn.Module] = []
    original = nn.Module.compile

    def compile_eagerly(self):
        compiled.append(self)
        original(self, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", compile_eagerly)
    plain = trained(recipe)
    assert compiled == []
    assert largest_difference(plain, trained(recipe, "compile=true")) < 1e-5
    assert [type(module).__name__ for module in compiled] == ["ReLU", "SmallNet"]  # a probe first


def test_a_compiler_that_does_not_work_is_found_out_before_anything_is_done(
    recipe, console, monkeypatch
):
    def broken(graph, inputs):
        raise RuntimeError("no working compiler\n\nand a page more")

    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: original(self, backend=broken))
    recipe(name="first")
    teacher = "teacher={use: smallnet, weights: runs/digits/first, recipe: first.yaml}"
    what = recipe("compile=true", teacher, "losses=[{use: kd}]")
    said = r"compile does not work here: .*Error: no working compiler\. It needs .*`compile: false`"
    for start in (run, dry_run):
        with pytest.raises(ValueError, match=said):
            start(what, console)
    assert not what.run_dir.parent.exists()
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(
    ("optimizer", "way"),
    [
        ("{use: SGD, lr: 0.1}", {"foreach": True, "fused": None}),
        ("{use: AdamW, lr: 0.1}", {"foreach": None, "fused": True}),
        ("{use: AdamW, lr: 0.1, fused: false}", {"foreach": None, "fused": False}),
        ("{use: AdamW, lr: 0.1, foreach: true}", {"foreach": True, "fused": None}),
        ("{use: RMSprop, lr: 0.1}", {"foreach": None}),
    ],
)
def test_optimizers_run_in_their_fastest_way(recipe, optimizer, way):
    component = recipe(f"optimizer={optimizer}").optimizer.component
    built = build_optimizer(component, [nn.Parameter(torch.zeros(2))])
    assert {name: built.defaults[name] for name in way} == way


def test_what_a_fused_kernel_would_get_wrong_is_not_fused(recipe):
    component = recipe("optimizer={use: AdamW, lr: 0.1}").optimizer.component
    channels_last = torch.zeros(2, 3, 5, 5).to(memory_format=torch.channels_last)
    for values, fused in (
        (torch.zeros(2, dtype=torch.complex64), None),
        (torch.zeros(4, 4)[:, :2], None),
        (torch.zeros(1).expand(3), None),
        (channels_last, True),
    ):
        built = build_optimizer(component, [nn.Parameter(values)])
        assert built.defaults["fused"] is fused


@pytest.mark.parametrize("use", ["AdamW, eps: 0.1", "SGD, momentum: 0.9"])
def test_the_fastest_way_goes_the_same_steps(recipe, use):
    states = [
        trained(recipe, f"optimizer={{use: {use}, lr: 0.01{way}}}")
        for way in ("", ", foreach: false, fused: false")
    ]
    assert largest_difference(*states) < 1e-5


def test_loader_workers_count_as_threads(recipe, monkeypatch):
    monkeypatch.setattr("kdx.launch.cores.cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for workers, threads in ((0, 6), (2, 4), (9, 1)):
        accelerator_for(build(recipe(f"data.workers={workers}")))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)


@pytest.mark.long
def test_a_compiled_run_sees_the_taps_of_each_stage(recipe, monkeypatch, teacher_run):
    """What was compiled for one stage's features would not find another's."""
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: original(self, backend="aot_eager"))
    kd, hint = (
        "losses: [{use: kd}]",
        "losses: [{use: hint, student_layer: fc1, teacher_layer: fc1}]",
    )
    stages = ", ".join(f"{{epochs: 1, {losses}}}" for losses in (kd, hint, kd))
    overrides = (f"teacher={{use: smallnet, weights: {teacher_run}}}", f"stages=[{stages}]")
    fits = []
    for compiled in ("false", "true"):
        job = build(recipe(f"compile={compiled}", *overrides))
        runtime = Runtime(job, accelerator_for(job))
        runtime.compile()
        for stage in job.stages:
            runner = StageRunner(runtime, stage)
            runner.step(next(iter(runtime.loader)), runtime.batches.size(0), EpochStats())
            runner.finish()
        fits.append(deepcopy(job.student.state_dict()))
    assert largest_difference(*fits) < 1e-5


def test_products_are_made_once_in_an_evaluation(recipe):
    job = build(recipe(EXPANDED, "data.limit=600"))
    runtime = Runtime(job, accelerator_for(job))
    made: list[torch.Tensor] = []
    fold = job.student.conv1._fold_now
    job.student.conv1._fold_now = lambda: made.append(1) or fold()
    runtime.evaluate(job.student, job.splits.train)
    assert len(job.splits.train) > 512  # three batches
    assert len(made) == 1
    job.student(Batch(*runtime.job.train_views.__getitems__([(0, 0)])).images)
    assert len(made) == 2
