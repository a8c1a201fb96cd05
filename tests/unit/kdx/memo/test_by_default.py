"""The memo that a run has without asking, as its views never change."""

import json
from dataclasses import replace

import pytest
import torch

from kdx.commands.fill import fill
from kdx.commands.plan import dry_run
from kdx.data import Views
from kdx.memo.use import has_memo
from kdx.protocols import InputSpec
from kdx.run.run import run
from tests.unit.kdx.data.test_views import Plain
from tests.unit.kdx.memo.oracle import plan, plan_memo
from tests.unit.kdx.memo.test_training import HINT_THEN_KD, TEACHER_FNS, losses, memos

FIXED = ("teacher.memo=null", "data.augment={}")
FILE = "student.safetensors"
EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl, rate: 2}]"
BY_DEFAULT = (
    "on by default: without augmentation the teacher's outputs never change "
    "(`memo: false` of the teacher turns it off)\n"
)


@pytest.mark.parametrize(
    "what",
    [
        (TEACHER_FNS["kd"], "data.limit=58", "epochs=4", EXPAND),
        # parts of one size: some processors round a sample otherwise among 10 than among 11
        (TEACHER_FNS["hint"], "accumulate=2", "epochs=3"),
        (TEACHER_FNS["pkt"], "precision=bf16", "epochs=3"),
        (HINT_THEN_KD, "epochs=2", "data.workers=1"),
    ],
)
def test_the_student_is_the_live_teachers_to_the_byte(guided, console, asked, what):
    live = run(guided(*FIXED, "teacher.memo=false", *what, name="live"), console)
    asked.clear()
    remembering = run(guided(*FIXED, *what, name="remembering"), console)
    assert sum(asked) == (58 if "data.limit=58" in what else 64)
    assert (remembering / FILE).read_bytes() == (live / FILE).read_bytes()
    assert losses(remembering) == losses(live)
    assert console.file.getvalue().count(f"memo     {BY_DEFAULT}") == 1


def test_it_is_of_one_view_rounds_nothing_and_serves_all_seeds(guided, console, asked, tmp_path):
    run(guided(*FIXED, name="first"), console)
    (memo,) = memos(tmp_path)
    about = json.loads((memo / "memo.json").read_text())
    parts = [about["ingredients"][name] for name in ("views", "dtype", "top", "seed")]
    assert parts == [1, "float32", None, None]
    assert about["outputs"] == {"logits": {"holds": "10", "bytes": 40}}
    run(guided(*FIXED, "seed=1", "data.limit=null", "epochs=1", name="all"), console)
    run(guided(*FIXED, "seed=2", "data.limit=null", "epochs=1", name="again"), console)
    assert asked == []
    assert "since" not in console.file.getvalue()


def test_who_has_none(guided, loop_of):
    alone = ("teacher=null", "losses=[{use: cross_entropy}]")
    for overrides in (("teacher.memo=null",), (*FIXED, "teacher.memo=false"), (*FIXED, *alone)):
        assert not has_memo(guided(*overrides))
        assert plan_memo(loop_of(guided(*overrides))) is None


def test_without_room_the_teacher_runs_and_that_is_said(
    guided, console, asked, monkeypatch, tmp_path
):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("kdx.memo.plan.shutil.disk_usage", lambda place: usage)
    run(guided(*FIXED, "epochs=2", name="live"), console)
    assert sum(asked) >= 2 * 64
    said = "note     the memo is off, and the teacher runs at every step: 64 samples x 1 view x (10"
    assert said in console.file.getvalue()
    assert "1 kB free: `top: 1` would fit\n" in console.file.getvalue()
    assert not (tmp_path / "runs/memos").exists()
    dry_run(guided(*FIXED), console)
    assert "note: the memo is off, and the teacher runs" in console.file.getvalue()
    with pytest.raises(ValueError, match=r"teacher.memo: nothing to fill; the memo is off"):
        fill(guided(*FIXED), console)


def test_nothing_is_written_through_a_link(guided, console, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/memos").symlink_to(tmp_path / "elsewhere")
    run(guided(*FIXED, name="live"), console)
    assert "runs/memos leads out of the output root\n" in console.file.getvalue()
    assert list((tmp_path / "elsewhere").iterdir()) == []


class Noisy(Plain):
    """Scenes with a random transform of their own, if `noise` is above 0."""

    def __init__(self, noise):
        super().__init__(torch.zeros(6).long())
        self.noise = noise

    def view(self, index, input, augment):
        image = torch.full((3, 32, 32), 100 + index)
        return (image + self.noise * torch.rand(1)).byte(), torch.zeros(1)


@pytest.mark.parametrize("noise", [0, 50])
def test_scenes_with_transforms_of_their_own_are_noticed(
    noise, guided, loop_of, monkeypatch, tmp_path
):
    runtime = loop_of(guided(*FIXED))
    views = Views(Noisy(noise), InputSpec(3, 32, (0.5,) * 3, (0.5,) * 3), seed=0)
    runtime.job = replace(runtime.job, train_views=views)
    monkeypatch.setattr("kdx.memo.use.make_plan", lambda *args, **kwargs: plan(tmp_path))
    assert (plan_memo(runtime) is None) == bool(noise)


def test_it_can_be_filled_and_a_dry_run_shows_it(guided, console, asked):
    dry_run(guided(*FIXED), console)
    fill(guided(*FIXED), console)
    assert sum(asked) == 64
    dry_run(guided(*FIXED), console)
    said = console.file.getvalue()
    assert said.count(f"memo: {BY_DEFAULT}") == 2
    kept = "64 samples x 1 view x (10 logits) in float32: 2.8 kB of at most 10 GB, at "
    assert said.count(f"memo: {kept}") == 2
    assert "; 0% filled\n" in said
    assert "; 100% filled\n" in said


def test_one_that_cannot_be_opened_is_left_out(guided, console, asked, tmp_path):
    live = run(guided(*FIXED, "teacher.memo=false", name="live"), console)
    place = guided().memos_dir(guided().teacher)
    place.parent.mkdir(exist_ok=True)
    place.touch()  # a file, where memos are to lie
    run_dir = run(guided(*FIXED, name="left_out"), console)
    said = "note     the memo is off, and the teacher runs at every step: "
    assert said in console.file.getvalue()
    assert (run_dir / FILE).read_bytes() == (live / FILE).read_bytes()
    with pytest.raises(OSError, match=str(place)):
        run(guided("teacher.memo={views: 1}", name="asked"), console)
    with pytest.raises(ValueError, match=r"memos: the memo cannot be opened there"):
        fill(guided(*FIXED, name="filled"), console)
