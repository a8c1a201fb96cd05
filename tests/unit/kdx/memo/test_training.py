"""Runs that learn from a memo."""

import json

import pytest
import torch

from kdx.commands.fill import fill
from kdx.commands.plan import dry_run
from kdx.memo.use import plan_memos
from kdx.run.run import run
from tests.unit.kdx.memo.oracle import plan_memo, remembering
from tests.unit.runs import contents, same

TEACHER_FNS = {
    "kd": "losses=[{use: kd, temperature: 4}]",
    "hint": "losses=[{use: hint, student_layer: pool3, teacher_layer: relu_fc1}]",
    "pkt": "losses=[{use: pkt, student_layer: fc1, teacher_layer: pool3}]",
}
HINT_THEN_KD = (
    "stages=[{name: hint, losses: [{use: hint, student_layer: fc1, teacher_layer: fc1}]}, "
    "{name: kd, losses: [{use: kd}], epochs: 2}]"
)
MANY = ("data.limit=58", "epochs=4", "optimizer={use: SGD, lr: 0.05}")


def losses(run_dir):
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [line["loss/total"] for line in lines]


def memos(root):
    return sorted((root / "runs" / "memos").iterdir())


MIXED = (
    "data.augment=[{use: RandAugment}, {use: RandomErasing, p: 0.5}]",
    "data.mixup=0.4",
    "data.cutmix=1.0",
)


@pytest.mark.parametrize(("name", "mixed"), [*((n, ()) for n in TEACHER_FNS), ("kd", MIXED)])
def test_losses_are_those_of_the_live_teacher(guided, loop_of, console, name, mixed):
    runtime = loop_of(guided(TEACHER_FNS[name], *mixed))
    job, objective = runtime.job, runtime.job.stages[0].objective
    objective.tapped.attach()
    objective.eval()
    with remembering(runtime, plan_memo(runtime), console) as memo:
        for images, labels, indices in runtime.loader:
            live = {"teacher": job.teachers["teacher"](images)}
            expected = objective(images, labels, live)[0].item()
            for _ in range(2):
                said = memo(images, indices, view=0)
                value = objective(images, labels, {"teacher": said})[0].item()
                assert value == pytest.approx(expected, rel=2e-3)
    assert expected > 0


@pytest.mark.parametrize(
    "what",
    [(TEACHER_FNS["kd"],), (TEACHER_FNS["hint"], "accumulate=3"), (HINT_THEN_KD, "epochs=2")],
)
def test_a_filled_memo_changes_nothing_and_asks_nobody(guided, console, asked, what):
    first = run(guided(*what, *MANY, name="first"), console)
    assert sum(asked) == 2 * 58
    again = run(guided(*what, *MANY, name="again"), console)
    assert asked == []
    assert same(contents(first), contents(again))
    assert losses(first) == losses(again)


def test_views_come_in_turn(guided, console, asked):
    """The third epoch shows the views of the first, in an order of its own."""
    recipe = guided("epochs=3", "optimizer={use: SGD, lr: 1e-12}")
    values = losses(run(recipe, console))
    assert asked == [16] * 8
    live = losses(run(guided("teacher.memo=null", "epochs=3", "optimizer={use: SGD, lr: 1e-12}",
                             name="live"), console))  # fmt: skip
    assert values[:2] == pytest.approx(live[:2], rel=1e-3)
    assert values[2] != pytest.approx(live[2], rel=1e-3)


def test_ahead_or_on_the_way_is_the_same(guided, console, asked, tmp_path):
    """57 samples in batches of 16: in each epoch one is left out, which `fill` adds."""
    what = ("data.limit=57", "epochs=4", "optimizer={use: SGD, lr: 0.05}")
    fill(guided(*what), console)
    assert sum(asked) == 2 * 57
    assert not (tmp_path / "runs" / "digits" / "plain").exists()
    ahead = run(guided(*what, name="ahead"), console)
    assert asked == []
    aside = (tmp_path / "runs" / "memos").rename(tmp_path / "runs" / "aside")
    on_the_way = run(guided(*what, name="way"), console)
    assert sum(asked) >= 2 * 56
    assert same(contents(ahead), contents(on_the_way))
    (made,) = memos(tmp_path)
    assert (aside / made.name / "memo.json").read_bytes() == (made / "memo.json").read_bytes()


def test_filling_says_what_it_does(guided, console, asked):
    recipe = guided()
    fill(recipe, console)
    assert sum(asked) == 2 * 64
    fill(recipe, console)
    assert asked == []
    lines = console.file.getvalue().splitlines()
    assert lines[0].strip("─ ") == "digits/plain: the teacher's memo"
    assert [line.partition("; ")[2] for line in lines if "samples x" in line] == [
        "0% filled", "100% filled"]  # fmt: skip
    views = [line.split("  ")[-1] for line in lines if line.startswith("view")]
    assert all(view.endswith(" images/s") for view in views[:2])
    assert views[2:] == ["already filled"] * 2
    assert lines[-1] == "memo     100% filled"


def test_a_partly_filled_memo_is_completed(guided, console, asked, tmp_path):
    what = ("epochs=4",)
    first = run(guided(*what, name="first"), console)
    (memo,) = memos(tmp_path)
    content = (memo / "logits.checks").read_bytes()
    whole = (memo / "logits.rows").read_bytes()
    (memo / "logits.checks").write_bytes(content[:100] + bytes(60) + content[160:])
    again = run(guided(*what, name="again"), console)
    assert sum(asked) == 15
    differing = [a != b for a, b in zip((memo / "logits.rows").read_bytes(), whole, strict=True)]
    assert sum(differing) <= 5  # rounding depends on the size of the batch, once in a while
    assert losses(again) == pytest.approx(losses(first), rel=1e-4)


def test_damaged_rows_are_counted_at_the_end_of_the_run(guided, console, asked, tmp_path):
    what = (TEACHER_FNS["hint"], "epochs=3")
    run(guided(*what, name="first"), console)
    assert "rows of the memo" not in console.file.getvalue()
    (memo,) = memos(tmp_path)
    for path, width, indices in (("logits", 20, (3, 5, 70)), ("feature.relu_fc1", 128, (5, 64))):
        with (memo / f"{path}.rows").open("r+b") as file:
            for index in indices:
                file.seek(index * width)
                file.write(b"\x5a\xa5")
    run(guided(*what, name="again"), console)
    assert sum(asked) == 4
    said = console.file.getvalue()
    assert "note     4 of 128 rows of the memo were damaged and computed again\n" in said
    run(guided(*what, name="third"), console)
    assert console.file.getvalue().count("rows of the memo") == 1


def test_a_kd_run_and_a_hint_run_share_the_logits(guided, console, asked, tmp_path):
    run(guided(TEACHER_FNS["kd"], "epochs=2", name="kd"), console)
    (memo,) = memos(tmp_path)
    logits = (memo / "logits.rows").read_bytes()
    run(guided(TEACHER_FNS["hint"], "epochs=2", name="hint"), console)
    assert memos(tmp_path) == [memo]
    assert (memo / "logits.rows").read_bytes() == logits
    run(guided(TEACHER_FNS["kd"], "epochs=2", name="kd2"), console)
    assert asked == []


def test_workers_and_bf16(guided, console, asked):
    what = ("epochs=3", "precision=bf16")
    first = run(guided(*what, "data.workers=1", name="first"), console)
    assert sum(asked) == 2 * 64
    again = run(guided(*what, name="again"), console)
    assert asked == []
    assert same(contents(first), contents(again))


def test_what_is_refused_is_refused_before_anything_is_done(guided, recipe, console, tmp_path):
    small = guided("teacher.memo.limit=1e-6")
    for start in (run, dry_run, fill):
        with pytest.raises(ValueError, match=r"over the limit of 1 kB .*: not even `views: 1` wo"):
            start(small, console)
    recipe(name="first")
    absent = ("teacher.weights=runs/digits/first", "teacher.recipe=first.yaml")
    with pytest.raises(ValueError, match="over the limit"):
        run(guided("teacher.memo.limit=1e-6", *absent), console)
    assert not (tmp_path / "runs").exists()


def test_errors_name_one_of_several_teachers(guided, loop_of, console):
    def of(memo):
        network = {"use": "tests.toys.dropping", "memo": memo}
        return guided("teacher=null", f"teachers={json.dumps({'big': network})}")

    with pytest.raises(ValueError, match=r"^no teachers.big.memo in .* to its `teachers.big:`, or"):
        fill(of(False), console)
    message = r"^teachers.big.memo: .* \(teachers.big.memo.limit, in GB"
    with pytest.raises(ValueError, match=message):
        plan_memos(loop_of(of({"views": 1, "limit": 1e-6})))
    with pytest.raises(ValueError, match=r"^teachers.big.memo.top: 10 of 10 logits"):
        plan_memos(loop_of(of({"views": 1, "top": 10})))


def test_filling_needs_a_memo(guided, console):
    for without in ("teacher.memo=null", "teacher=null"):
        with pytest.raises(ValueError, match=r"no teacher.memo in the recipe: add `memo:"):
            fill(guided(without), console)


def test_a_teacher_beyond_half_precision(guided, loop_of, console):
    runtime = loop_of(guided())
    with torch.no_grad():
        runtime.job.teachers["teacher"].module.fc2.bias[0] = 1e5
    images, _, indices = next(iter(runtime.loader))
    with (
        remembering(runtime, plan_memo(runtime), console),
        pytest.raises(ValueError, match=r"teacher's logits: 1e\+05 is beyond float16's range: set"),
    ):
        runtime.teacher_fns["teacher"](images, indices, view=0)
    said = runtime.teacher_fns["teacher"](images, indices, view=0)  # the teacher itself, again
    assert said.logits.max() > 9e4
