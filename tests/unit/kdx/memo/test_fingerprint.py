import os

import pytest
import torch
from PIL import Image

from kdx.data import Augment, FileImages, MemoryImages, Views
from kdx.memo.fingerprint import differences, fingerprint
from kdx.memo.fingerprint import ingredients as ingredients_of
from kdx.protocols import InputSpec
from tests.unit.kdx.memo.oracle import plan_memo, remembering

CHANGES = {
    "augment": ("data.augment.crop=4", "augment changed (crop 2 -> 4)"),
    "list": (
        "data.augment=[{use: RandAugment, num_ops: 1}]",
        'augment changed (crop 2 -> 0, flip true -> false, then null -> [{"use": "RandAugment", '
        '"num_ops": 1}])',
    ),
    "mixing": (
        "data.mixup=0.5",
        'mixing changed (null -> {"mixup": 0.5, "cutmix": 0.0, "classes": 10})',
    ),
    "seed": ("seed=1", "data changed (content)", "seed changed (0 -> 1)"),
    "views": ("teacher.memo.views=3", "views changed (2 -> 3)"),
    "dtype": ("teacher.memo.dtype=float32", "dtype changed (float16 -> float32)"),
    "top": ("teacher.memo.top=3", "top changed (null -> 3)"),
    "data": ("data.limit=48", "data changed (samples 64 -> 48, content)"),
    "validation": ("data.validation=16", "data changed (content)"),
    "input": ("teacher.input={mean: [0.5]}", "teacher's input changed (mean [0.3053] -> [0.5])"),
    "precision": ("precision=bf16", "precision changed (no -> bf16)"),
    "teacher": ("teacher.in_channels=1", "teacher changed (in_channels null -> 1)"),
}


@pytest.fixture
def first(guided, loop_of, console):
    """Make a memo, and return its plan."""
    runtime = loop_of(guided())
    made = plan_memo(runtime)
    with remembering(runtime, made, console):
        pass
    return made


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_starts_another_memo_and_says_why(first, guided, loop_of, name):
    override, *said = CHANGES[name]
    other = plan_memo(loop_of(guided(override)))
    assert other.directory != first.directory
    assert other.directory.parent == first.directory.parent
    assert other.unlike == tuple(said)


@pytest.mark.parametrize("override", ["data.batch_size=8", "epochs=9", "optimizer.lr=1", "name=x",
                                      "student.kernel_size=7", "accumulate=2",
                                      "data.label_noise=0.5"])  # fmt: skip
def test_what_the_teacher_does_not_see_changes_nothing(first, guided, loop_of, override):
    again = plan_memo(loop_of(guided(override)))
    assert (again.directory, again.unlike) == (first.directory, ())


def test_other_weights_start_another_memo(first, guided, loop_of, console):
    runtime = loop_of(guided())
    with torch.no_grad():
        runtime.job.teachers["teacher"].module.fc2.bias[3] += 1e-6
    other = plan_memo(runtime)
    assert other.directory != first.directory
    assert other.unlike == ("weights changed",)
    with remembering(runtime, other, console):
        pass
    assert "memo     new, since weights changed\n" in console.file.getvalue()


def test_buffers_and_extra_state_count_too(first, guided, loop_of):
    runtime = loop_of(guided())
    network = runtime.job.teachers["teacher"].module
    network.bn1.running_var[0] *= 2
    moved = plan_memo(runtime).directory
    type(network.pool1).get_extra_state = lambda module: {"scale": 3}
    try:
        assert len({first.directory, moved, plan_memo(runtime).directory}) == 3
    finally:
        del type(network.pool1).get_extra_state


def test_the_nearest_memo_is_named(first, guided, loop_of, console):
    far = loop_of(guided("seed=7", "data.augment.crop=3", "teacher.memo.views=4"))
    with remembering(far, plan_memo(far), console):
        pass
    said = "memo     new, since data changed (content), augment changed (crop 2 -> 3), seed changed"
    assert said in console.file.getvalue()
    near = plan_memo(loop_of(guided("seed=7", "data.augment.crop=3", "teacher.memo.views=5")))
    assert near.unlike == ("views changed (4 -> 5)",)
    (first.directory / "memo.json").write_text("damaged")  # is passed over
    (plan_memo(far).directory / "memo.json").write_text("[]")
    assert plan_memo(loop_of(guided("seed=8"))).unlike == ()


def test_image_files_count_by_name_size_and_time(guided, loop_of, tmp_path):
    def parts(folder):
        paths = [str(path) for path in sorted(folder.glob("*/*.png"))]
        source = FileImages(paths, torch.zeros(len(paths)).long())
        spec = InputSpec(3, 32, (0.5,) * 3, (0.5,) * 3)
        runtime = loop_of(guided())
        views = Views(source, spec, seed=0)
        return ingredients_of(
            runtime.job.recipe.teacher, runtime.job.teachers["teacher"], views, precision="no"
        )

    for index in range(4):
        path = tmp_path / "one" / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), index).save(path)
        os.utime(path, ns=(10**18, 10**18))
    before = parts(tmp_path / "one")
    moved = (tmp_path / "one").rename(tmp_path / "two")
    assert parts(moved) == before
    assert before["data"]["samples"] == 4
    os.utime(moved / "class1" / "3.png", ns=(10**18, 10**18 + 1))
    touched = parts(moved)
    assert differences(before, touched) == ["data changed (content)"]
    os.utime(moved / "class1" / "3.png", ns=(10**18, 10**18))
    (moved / "class1" / "3.png").rename(moved / "class1" / "4.png")
    renamed = parts(moved)
    assert len({fingerprint(each) for each in (before, touched, renamed)}) == 3


def test_ingredients_that_come_and_go():
    assert differences({"a": 1, "b": 2}, {"b": 2, "c": "x"}) == [
        "c changed (null -> x)",
        "a changed (1 -> null)",
    ]


def test_a_plug_ins_source_has_memos_of_its_own(guided, loop_of):
    class Noisy(MemoryImages):
        """Holds the same tensors, and may show something else."""

    runtime = loop_of(guided())
    views = runtime.job.train_views
    teacher = runtime.job.recipe.teacher, runtime.job.teachers["teacher"]
    own = ingredients_of(*teacher, views, precision="no")
    views.source.__class__ = Noisy
    others = ingredients_of(*teacher, views, precision="no")
    assert others["data"]["source"].endswith("Noisy")
    assert fingerprint(own) != fingerprint(others)


def test_random_crops_of_files_are_of_a_version(guided, loop_of, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    source = FileImages([str(tmp_path / "a.png")], torch.zeros(1).long())
    spec, recipe = InputSpec(3, 32, (0.5,) * 3, (0.5,) * 3), guided()
    teacher, found = loop_of(recipe).job.teachers["teacher"], []
    for augment in (Augment(resized_crop=(0.5, 1)), Augment(crop=2)):
        views = Views(source, spec, seed=0, augment=augment)
        found.append(ingredients_of(recipe.teacher, teacher, views, precision="no"))
    assert [parts.get("crops") for parts in found] == [2, None]
