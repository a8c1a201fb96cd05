from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from kdx.memo.plan import Plan, check_room, make_plan
from kdx.memo.rows import Whole
from kdx.models.features import FeatureWanted
from kdx.models.teacher import Teacher
from tests.unit.kdx.memo.oracle import plan, plan_memo, remembering

HINT = "losses=[{use: kd}, {use: hint, student_layer: pool3, teacher_layer: pool3}]"
TWO = "stages=[{losses: [{use: pkt, student_layer: fc1, teacher_layer: fc1}]}, {}]"


class Everywhere(nn.Module):
    """Answers each pixel with logits of 10 classes."""

    def forward(self, images):
        return images[:, :1].expand(-1, 10, -1, -1)


def test_outputs_of_more_than_one_place(guided, loop_of):
    job = loop_of(guided()).job
    size = job.data.input.size
    teacher = Teacher(Everywhere(), own=job.data.input, given=job.data.input)
    made = make_plan(job.recipe.teacher, teacher, job.train_views, directory=Path(), precision="no")
    assert f"x 2 views x (10 x {size} x {size} logits) in float16" in made.rows()
    with pytest.raises(ValueError, match=r"would take [\d.]+ MB, .*: `views: 1` would fit$"):
        check_room(replace(made, limit=made.size() / 2 + 1))
    top = guided("teacher.memo.top=3")
    message = rf"teacher.memo.top: 3, but .* is 10 x {size} x {size} and not one logit per class"
    with pytest.raises(ValueError, match=message):
        make_plan(top.teacher, teacher, job.train_views, directory=Path(), precision="no")


def fashion(classes: int, *, limit: float, views: int = 5, place=None) -> Plan:
    codecs = {"logits": Whole((classes,), "float16")}
    return Plan(place, {"dtype": "float16"}, 60_000, views, codecs, limit)


def test_what_will_be_held_and_how_large_it_is(guided, loop_of):
    made = plan_memo(loop_of(guided(HINT, TWO)))
    assert made.shape == (2, 64)
    kept = "64 samples x 2 views x (10 logits + 32 x 2 x 2 of pool3 + 64 of fc1) in float16"
    assert str(made).startswith(kept + ": ")
    assert made.size() == 2 * 64 * (2 * (10 + 128 + 64) + 3 * 4)
    assert " 53.2 kB of at most 10 GB, at " in str(made)
    assert made.directory.parent.name == "memos"


def test_the_directory_can_be_chosen(guided, loop_of, tmp_path):
    made = plan_memo(loop_of(guided("teacher.memo.directory=runs/elsewhere")))
    assert made.directory.parent == tmp_path / "runs" / "elsewhere"


def test_how_full_it_is(guided, loop_of, console):
    runtime = loop_of(guided())
    made = plan_memo(runtime)
    assert made.filled() == 0
    assert not made.directory.exists()
    with remembering(runtime, made, console) as memo:
        for batch in runtime.loader:
            memo(batch.images, batch.indices, view=0)
    assert made.filled() == 0.5
    again = plan_memo(runtime)
    assert (again.directory, again.filled(), again.unlike) == (made.directory, 0.5, ())
    assert console.file.getvalue().count("0% filled") == 1


class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.turn = nn.Flatten(0)

    def forward(self, images):
        self.turn(images)
        return images.flatten(1)[:, :10]


def test_a_feature_that_mixes_the_samples_is_refused(guided, loop_of):
    runtime = loop_of(guided())
    job, views = runtime.job, runtime.job.train_views
    teacher = Teacher(Turned(), own=job.data.input, given=job.data.input)
    with pytest.raises(FeatureWanted) as wanted:
        teacher(views.__getitems__([(0, 0)]).images).features["turn"]
    wanted.value.network.tap("turn")
    with pytest.raises(ValueError, match=r"no axis is the batch in .*'turn': \[2048\]"):
        make_plan(job.recipe.teacher, teacher, views, directory=Path(), precision="no")


def test_top_must_leave_something(guided, loop_of):
    with pytest.raises(ValueError, match=r"teacher.memo.top: 10 of 10 logits: use 9 or fewer"):
        plan_memo(loop_of(guided("teacher.memo.top=10")))
    assert "(top 3 of 10 logits)" in str(plan_memo(loop_of(guided("teacher.memo.top=3"))))


def test_the_size_is_limited(tmp_path):
    check_room(fashion(10, limit=7_200_000, place=tmp_path))
    message = (
        r"60,000 samples x 5 views x \(10 logits\) in float16 would take 7.2 MB, over the limit "
        r"of 7 MB \(teacher.memo.limit, in GB\): `views: 4` or `top: 4` would fit"
    )
    with pytest.raises(ValueError, match=message):
        check_room(fashion(10, limit=7_000_000, place=tmp_path))
    with pytest.raises(ValueError, match=r"1.2 GB, over .* of 100 MB .*: `top: 415` would fit"):
        check_room(fashion(10_000, limit=1e8, views=1, place=tmp_path / "absent"))
    with pytest.raises(ValueError, match="not even `views: 1` would fit"):
        check_room(fashion(10, limit=100, place=tmp_path))


def test_the_advice_is_right(tmp_path):
    for classes, limit in ((10, 7e6), (100, 2e7), (1000, 3e7)):
        tight = fashion(classes, limit=limit, place=tmp_path)
        with pytest.raises(ValueError, match="would fit") as error:
            check_room(tight)
        advice = str(error.value)
        if "`views: " in advice:
            views = int(advice.partition("`views: ")[2].partition("`")[0])
            check_room(replace(tight, views=views))
            with pytest.raises(ValueError, match="over the limit"):
                check_room(replace(tight, views=views + 1))


def test_the_disk_is_limited(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 5_000_000})
    monkeypatch.setattr("kdx.memo.plan.shutil.disk_usage", lambda place: usage)
    message = rf"would take 7.2 MB, but {tmp_path} has 5 MB free: `views: 3` or `top: 2` would fit"
    with pytest.raises(ValueError, match=message):
        check_room(fashion(10, limit=1e9, place=tmp_path / "memos" / "ab"))
    there = tmp_path / "there"
    there.mkdir()
    (there / "logits.rows").write_bytes(bytes(2_500_000))
    check_room(fashion(10, limit=1e9, place=there))  # what it takes up already is not counted


def test_small_plans_of_the_tests_fit(tmp_path):
    check_room(plan(tmp_path))
