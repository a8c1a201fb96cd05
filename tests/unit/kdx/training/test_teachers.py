"""Several teachers, the student itself as teacher, and its moving average."""

import re

import pytest
import torch
from safetensors.torch import load_file

from kdx.commands.fill import fill
from kdx.commands.plan import dry_run
from kdx.memo.use import plan_memos
from kdx.models.transforms import restore
from kdx.recipe import RecipeError
from kdx.report.summary import read_summary
from kdx.run.resume import circumstances, compare
from kdx.run.run import run
from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.stage import EpochStats, StageRunner
from tests.unit.runs import EXPAND, SGD, contents, same

TWO = "teachers={{big: {{use: smallnet, weights: {0}}}, small: {{use: smallnet, weights: {1}}}}}"
BOTH = "losses=[{use: kd, teacher: {big: 3, small: 1}}, {use: kd, name: small, teacher: small}]"
EMA = "teacher={use: ema, decay: 0.9}"


@pytest.fixture
def two(recipe, teacher_run, console):
    """Return a function: overrides to a recipe with two trained teachers, the second weaker."""
    weaker = run(recipe("epochs=4", SGD, name="weaker"), console)
    teachers = TWO.format(teacher_run, weaker)
    return lambda *overrides, name="plain": recipe(teachers, *overrides, name=name)


def test_each_is_measured_and_so_is_their_mean(two, console):
    run_dir = run(two(BOTH, "teachers.small.allow_chance=true"), console)
    summary = read_summary(run_dir)
    assert list(summary.teachers) == ["big", "small"]
    assert summary.teachers["big"]["top1"] > summary.teachers["small"]["top1"]
    said = console.file.getvalue()
    for name, metrics in [*summary.teachers.items(), ("", summary.teacher)]:
        start = f"teacher {name}" if name else "teachers"
        assert f"{start} {metrics['top1']:.2%} top-1 on 64 test images; " in said
    assert 0 <= summary.last["agreement"] <= 1
    report = re.sub(" +", " ", (run_dir / "report.md").read_text())
    assert "| teacher small | test |" in report
    assert "| teachers, mean | test |" in report
    assert "1 kd of big x 3 and small + 1 small of small" in report


def test_losses_get_the_teachers_that_they_name(two):
    allowed = "teachers.small.allow_chance=true"
    whole, single = "losses=[{use: kd, temperature: 2}]", "losses=[{use: kd, teacher: big}]"
    with pytest.raises(ValueError, match=r"teachers\.small: no loss reads the teacher"):
        build(two(single))
    job = build(two(whole, allowed))
    (stage,) = job.stages
    assert stage.objective.reads == ["big", "small"]
    images, targets, _ = job.train_views.__getitems__([(0, i) for i in range(8)])
    outputs = {name: each(images) for name, each in job.teachers.items()}
    soft = sum((each.logits / 2).softmax(1) for each in outputs.values()) / 2
    stage.objective.eval()
    stage.objective.tapped.attach()
    _, values = stage.objective(images, targets, outputs)
    own = (stage.objective.student(images) / 2).log_softmax(1)
    expected = 4 * (soft * (soft.log() - own)).sum(1).mean()
    assert values["kd"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_layer_is_of_one_teacher(two):
    hint = "{use: hint, student_layer: fc1, teacher_layer: fc1}"
    with pytest.raises(ValueError, match=r"teachers: a layer is of one of them: name one, `teac"):
        build(two(f"losses=[{{use: kd}}, {hint}]"))
    job = build(two(f"losses=[{{use: kd}}, {hint[:-1]}, teacher: small}}]"))
    assert job.teachers["small"].paths == ("fc1",)
    assert job.teachers["big"].paths == ()


def test_each_has_a_memo(two, console):
    memo = "memo={views: 2, dtype: float32}"
    common = (BOTH, "data.augment={flip: true}", "teachers.small.allow_chance=true", "epochs=2")
    memos = (f"teachers.big.{memo}", f"teachers.small.{memo}")
    remembered, live = two(*common, *memos, name="remembered"), two(*common, name="live")
    fill(remembered, console)
    assert console.file.getvalue().count("memo     100% filled") == 2
    assert len(list((remembered.run_dir.parents[1] / "memos").iterdir())) == 2
    students = [contents(run(each, console)) for each in (remembered, live)]
    for name, tensor in students[0].items():
        torch.testing.assert_close(tensor, students[1][name])
    with pytest.raises(ValueError, match=r"teachers\.big\.memo\.views: 2, teachers\.small\.memo\."):
        run(two(*common, *memos, "teachers.small.memo.views=3"), console)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["losses=[{use: kd, teacher: bgi}]"], "'bgi' is not one of `teachers:`. Did you mean"),
        (["losses=[{use: kd, teacher: {big: 0}}]"], "{'big': 0} is neither the name of a teacher"),
        (["losses=[{use: kd, teacher: 3}]"], "3 is neither the name of a teacher, nor a share abo"),
        (["teacher={use: smallnet}"], "name all teachers here, or have one, in `teacher:`"),
        (["teachers={a b: {use: smallnet}}"], "'a b' is not a name: letters, digits, '_' and '-'"),
        (["teachers=null"], "None is not a mapping"),
        (["teachers.big.recipe=x.yaml", "teachers.big.weights=null"], "needs `weights:`"),
        (["teachers.big.kernel=3"], "unknown argument. Did you mean 'kernel_size'?"),
    ],
)
def test_problems_of_recipes(two, overrides, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        two(BOTH, *overrides)


def test_a_loss_names_a_teacher_only_of_several(recipe):
    with pytest.raises(RecipeError, match="'teacher' is not one of `teachers:`"):
        recipe("teacher={use: smallnet}", "losses=[{use: kd, teacher: teacher}]")


def test_a_dry_run_names_each(two, console):
    dry_run(two(BOTH, "teachers.small.weights=null"), console)
    said = console.file.getvalue()
    assert "teacher big: smallnet, 14,906 parameters; weights of " in said
    assert "teacher small: smallnet, 14,906 parameters; random values" in said
    assert "memo of teacher big: on by default" in said


def test_changed_weights_of_one_forbid_a_resume(two, teacher_run):
    jobs = [build(two(BOTH, *more)) for more in ((), (f"teachers.small.weights={teacher_run}",))]
    old, new = (circumstances(Runtime(job, accelerator_for(job))) for job in jobs)
    assert compare(old, new).refused == ["teacher: its weights changed"]


def test_born_again(recipe, console, tmp_path):
    """`use: student` is the student's network, with the weights of an earlier run of it."""
    recipe(name="first")
    (tmp_path / "digits" / "first.yaml").write_text(
        "data: {use: digits, limit: 256, batch_size: 16}\n"
        "student: {use: smallnet, kernel_size: 7}\n"
        "optimizer: {use: AdamW, lr: 0.01}\n"
        "epochs: 3\n"
    )
    teacher = "teacher={use: student, weights: runs/digits/first, recipe: first.yaml}"
    student = "student={use: smallnet, kernel_size: 7}"
    again = recipe(teacher, student, "losses=[{use: kd}]")
    assert again.teacher.component.use == "smallnet"
    assert again.teacher.component.arguments == {"kernel_size": 7}
    run(again, console)
    assert "The teacher has no weights yet: training digits/first" in console.file.getvalue()
    assert read_summary(again.run_dir).teacher["top1"] > 0.2


def test_the_average_follows_the_compact_weights(recipe):
    job = build(recipe(EMA, EXPAND, "losses=[{use: cross_entropy}, {use: kd}]", SGD))
    runtime = Runtime(job, accelerator_for(job))
    start = {n: v.clone() for n, v in restore(job.student, job.transforms).state_dict().items()}
    runner = StageRunner(runtime, job.stages[0])
    average, expected = runtime.averages["teacher"].module, start
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value, start[name])
    for step, batch in enumerate(runtime.loader, 1):
        runner.step(batch, len(batch.targets), EpochStats())
        kept = min(0.9, (1 + step) / (10 + step))
        now = restore(job.student, job.transforms).state_dict()
        expected = {
            n: kept * v + (1 - kept) * now[n] if v.is_floating_point() else now[n]
            for n, v in expected.items()
        }
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert not same(average.state_dict(), start)
    assert average is job.teachers["teacher"].module
    assert not any(p.requires_grad for p in average.parameters())


def test_an_average_teaches_and_is_not_remembered_or_judged(recipe, console):
    losses = "losses=[{use: cross_entropy}, {use: kd, weight: {from: 0, to: 1, epochs: 2}}]"
    run_dir = run(recipe(EMA, losses, "epochs=2", SGD), console)
    assert read_summary(run_dir).teacher is None
    assert not (run_dir.parents[1] / "memos").exists()
    assert "agreement" not in read_summary(run_dir).last


@pytest.mark.parametrize("key", ["weights: x", "memo: {views: 2}", "input: {size: 8}"])
def test_an_average_has_no_weights_memo_or_input(recipe, key):
    with pytest.raises(RecipeError, match="not for the student's moving average"):
        recipe(f"teacher={{use: ema, {key}}}")


def test_an_average_is_no_student(recipe):
    with pytest.raises(RecipeError, match="'ema' is a teacher, the student's own moving average"):
        recipe("student={use: ema}")


def test_there_is_no_average_of_a_student_without_a_compact_equivalent(recipe):
    stages = "stages=[{phase: nonlinear}, {phase: linear}]"
    with pytest.raises(ValueError, match=r"stages\[0\]: the student's moving average is of its co"):
        build(recipe(EMA, EXPAND, "losses=[{use: cross_entropy}, {use: kd}]", stages))


@pytest.mark.parametrize(
    "loss", ["cwd", "nkd, temperature: 4", "srrl", "tests.toys.Conditional, read: logits"]
)
def test_losses_without_a_mean_name_one_teacher(two, loss):
    with pytest.raises(ValueError, match=r"losses\[1\]: .*(name one|needs the network of one)"):
        build(two(f"losses=[{{use: kd}}, {{use: {loss}}}]", "student={use: smallnet}"))


def test_a_teacher_without_teachers_is_named(recipe):
    with pytest.raises(ValueError, match=r"losses\[1\]: 'tf_kd': the recipe has no teacher 'a'"):
        build(recipe("losses=[{use: cross_entropy}, {use: tf_kd, teacher: a}]"))


def test_averages_may_have_any_name(recipe, console):
    teachers = "teachers={values: {use: ema}, train: {use: ema, decay: 0.5}}"
    run_dir = run(recipe(teachers, "losses=[{use: cross_entropy}, {use: kd}]"), console)
    (checkpoint,) = (run_dir / "checkpoints").iterdir()
    names = load_file(checkpoint / "averages.safetensors")
    assert {name.partition(".")[0] for name in names} == {"values", "train"}


def test_what_the_run_gives_to_an_average_is_no_argument(recipe):
    with pytest.raises(RecipeError, match=r"student_network: unknown argument\. Known: .*decay"):
        recipe("teacher={use: ema, student_network: 3}")


def test_a_dry_run_loads_the_teachers_that_have_weights(two, console):
    missing = ("teachers.small.weights=runs/absent", "teachers.big.recipe=null")
    dry_run(two(BOTH, *missing), console)
    said = console.file.getvalue()
    assert "teacher big: smallnet, 14,906 parameters; weights of " in said
    assert "teacher small: smallnet, 14,906 parameters; no weights at " in said
    assert "and no `recipe:`: the run would stop here" in said


def test_a_memo_that_does_not_fit_is_named_with_its_teacher(two):
    job = build(two(BOTH, "teachers.small.memo={views: 2, limit: 1.0e-6}"))
    with pytest.raises(
        ValueError, match=r"^teachers\.small\.memo: .*\(teachers\.small\.memo\.limit"
    ):
        plan_memos(Runtime(job, accelerator_for(job)))
