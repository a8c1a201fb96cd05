"""The command lines, as their users run them: a run, then everything that is done with one."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

import expand
from kdx.models.students import smallnet

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
data: {use: digits, channels: 3, limit: 96, batch_size: 32, augment: {crop: 2, flip: true}}
teacher: {use: smallnet, weights: runs/digits/teacher, recipe: teacher.yaml}
student:
  use: smallnet
  transforms: [{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]
losses:
  - {use: cross_entropy, weight: 0.1}
  - {use: kd, weight: 0.9}
  - {use: pkt, student_layer: relu_fc1, teacher_layer: relu_fc1}
optimizer: {use: SGD, lr: 0.05, momentum: 0.9}
schedule: {use: cosine, warmup: 1}
epochs: 2
"""
TEACHER = """\
data: {use: digits, channels: 3, limit: 256, batch_size: 32}
student: {use: smallnet}
optimizer: {use: AdamW, lr: 0.01}
epochs: 4
"""


def tool(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "tools" / f"{name}.py", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Return a directory with a recipe, its teacher's recipe, and one run of it."""
    place = tmp_path_factory.mktemp("workplace")
    (place / "digits").mkdir()
    (place / "digits" / "kd.yaml").write_text(RECIPE)
    (place / "digits" / "teacher.yaml").write_text(TEACHER)
    done = tool("distill", "digits/kd.yaml", "student.transforms.0.rate=3", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The teacher has no weights yet: training digits/teacher first" in done.stdout
    assert "15,050 parameters, trained with 194,358" in done.stdout  # worked by hand
    return place


def test_a_memo_filled_ahead_serves_the_run(workplace):
    what = ("digits/kd.yaml", "teacher.memo.views=2", "name=remembering")
    done = tool("memo", *what, cwd=workplace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "96 samples x 2 views x (10 logits + 64 of relu_fc1) in float16" in done.stdout
    assert done.stdout.endswith("memo     100% filled\n")
    done = tool("distill", *what, cwd=workplace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "; 100% filled" in done.stdout


def test_the_run_is_where_the_recipe_says_and_loads_strictly(workplace):
    state = load_file(workplace / "runs/digits/kd/student.safetensors")
    smallnet(kernel_size=3, num_classes=10, in_channels=3, image_size=32).load_state_dict(
        state, strict=True
    )
    assert (workplace / "runs/digits/teacher/student.safetensors").is_file()


def test_every_key_of_the_metrics_is_documented(workplace):
    text = (ROOT / "docs" / "running.md").read_text().partition("| key | meaning |")[2]
    cells = [line.split("|")[1] for line in text.partition("\n\n")[0].splitlines()[2:]]
    keys = [key for cell in cells for key in re.findall("`(.*?)`", cell)]
    patterns = [re.sub("<term>", "(cross_entropy|kd|pkt)", key) for key in keys]
    patterns = [pattern.replace("<split>", "test") for pattern in patterns]
    classes = "exported/<metric>/<class>"
    patterns = [pattern.replace(classes, r"exported/recall/\d") for pattern in patterns]
    lines = (workplace / "runs/digits/kd/metrics.jsonl").read_text().splitlines()
    written = json.loads(lines[-1])
    assert [key for key in written if not any(re.fullmatch(p, key) for p in patterns)] == []
    unused = [p for p in patterns if not any(re.fullmatch(p, key) for key in written)]
    terms = "(cross_entropy|kd|pkt)"
    asked_for = [
        *("train/top1", "train/top5", "train/loss"),  # by train_metrics
        *(f"{name}/{terms}" for name in ("gradient", "cosine", "suggested")),  # by diagnose
        f"weight/{terms}",
        "test_average/<metric>",
        "skipped_steps",
    ]
    assert sorted(unused) == sorted(asked_for)


def test_evaluate_gives_the_figures_of_the_run(workplace):
    done = tool("evaluate", "runs/digits/kd", "--json", cwd=workplace)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    summary = json.loads((workplace / "runs/digits/kd/summary.json").read_text())
    assert result["metrics"]["top1"] == pytest.approx(summary["test"]["top1"])
    assert result["images"] == summary["test_images"] == 96
    more = tool("evaluate", "runs/digits/kd/student.safetensors", "data.limit=null", cwd=workplace)
    assert more.stdout.splitlines()[0].endswith("15,050 parameters, 360 test images")


def test_compress_makes_of_a_checkpoint_what_the_run_exported(workplace):
    checkpoint = "runs/digits/kd/checkpoints/epoch_0002"
    done = tool("compress", checkpoint, "-o", "out/compact.safetensors", cwd=workplace)
    assert done.returncode == 0, done.stderr
    made, exported = (
        load_file(workplace / path)
        for path in ("out/compact.safetensors", "runs/digits/kd/student.safetensors")
    )
    assert list(made) == list(exported)
    assert all((made[name] - exported[name]).abs().max() == 0 for name in made)


def test_the_checkpoint_is_usable_with_expand_alone(workplace):
    student = smallnet(kernel_size=3, num_classes=10, in_channels=3, image_size=32)
    expanded = expand.expand(student, conv="cl", linear=True, rate=3)
    checkpoint = workplace / "runs/digits/kd/checkpoints/epoch_0002/student.safetensors"
    expanded.load_state_dict(load_file(checkpoint), strict=True)
    exported = load_file(workplace / "runs/digits/kd/student.safetensors")
    compact = expand.compress(expanded).state_dict()
    assert all((compact[name] - exported[name]).abs().max() == 0 for name in exported)


def test_a_dry_run_prints_the_plan_and_writes_nothing(workplace):
    done = tool("distill", "digits/kd.yaml", "--dry-run", "name=dry", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "3 -[1x1]- 3 -[3x3]- 16 -[1x1]- 8" in done.stdout
    assert "cost: about" in done.stdout
    assert not (workplace / "runs/dry").exists()


def test_analyze_draws_all_runs_below_a_directory(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", ["analyze", "curves", "runs/digits", "-o", "figures"])
    with pytest.raises(SystemExit) as exited:
        runpy.run_path(str(ROOT / "tools" / "analyze.py"), run_name="__main__")
    assert exited.value.code == 0, capsys.readouterr().err
    assert capsys.readouterr().out == "figure   figures/curves.png\n"
    numbers = json.loads(Path("figures/curves.json").read_text(encoding="utf-8"))
    assert [group["label"] for group in numbers["groups"]] == ["digits/kd", "digits/teacher"]


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("distill", ["digits/kd.yaml"], "already exists: pass --resume"),
        ("distill", ["absent.yaml"], "absent.yaml"),
        ("distill", ["digits/kd.yaml", "losses.1.use=kdd"], "'kdd' is not a loss. Did you mean"),
        ("distill", ["digits/kd.yaml", "name=../out"], "'../out'"),
        ("distill", ["digits/kd.yaml", "name=x", "losses.2.student_layer=fc9"], "no module 'fc9'"),
        ("distill", ["digits/kd.yaml", "name=x", "teacher=null"], "kd needs a teacher"),
        ("analyze", ["curves", "digits"], "digits: no finished run (with summary.json and student"),
        (
            "analyze",
            ["landscape", "runs/digits/kd", "--points", "24"],
            "--points 24: must be",
        ),
        ("evaluate", ["runs/digits/absent"], "digits/absent: no such file or run directory"),
        ("evaluate", ["runs/digits"], "runs/digits has no student.safetensors: not a finished run"),
        ("evaluate", ["runs/digits/kd/report.md"], "not a run directory or a .safetensors, .pth"),
        ("evaluate", ["digits/kd.safetensors"], "kd.safetensors: not a readable safetensors file"),
        (
            "memo",
            ["digits/kd.yaml"],
            "no teacher.memo in the recipe: add `memo: {views: 5}`",
        ),
        ("evaluate", ["runs/digits/kd", "student.kernel_size=7"], "state dict does not match"),
        (
            "compress",
            ["runs/digits/kd/checkpoints/epoch_0009"],
            "epoch_0009 is not a checkpoint; found these: runs/digits/kd/checkpoints/epoch_0001, ",
        ),
        ("compress", ["runs/digits/kd"], ", runs/digits/kd/checkpoints/epoch_0002\n"),
        (
            "compress",
            ["runs/digits/kd/checkpoints"],
            "is not a checkpoint; found these: runs",
        ),
        ("compress", ["digits"], "digits is not a checkpoint; none found near it\n"),
        (
            "compress",
            ["runs/digits/kd/checkpoints/epoch_0002", "-o", "runs/digits/kd/student.safetensors"],
            "student.safetensors exists: name another file (-o), or pass --overwrite",
        ),
        (
            "compress",
            ["runs/digits/kd/checkpoints/epoch_0002", "-o", "out/compact.pth"],
            "out/compact.pth: the compact student is written to a .safetensors file",
        ),
    ],
)
def test_mistakes_are_told_in_a_line_that_helps(
    workplace, name, arguments, said, monkeypatch, capsys
):
    monkeypatch.chdir(workplace)
    Path("digits/kd.safetensors").write_text("no weights", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as exited:
        runpy.run_path(str(ROOT / "tools" / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr()
    assert exited.value.code == 2
    assert said in printed.err
    assert "Traceback" not in printed.err + printed.out
