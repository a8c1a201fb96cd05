"""Images that are damaged, of another kind, or gone: through whole runs, and by the thousand."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from rich.console import Console

from kdx.commands.shared import guarded
from kdx.data import MemoryImages
from kdx.protocols import ImageData, InputSpec
from kdx.recipe import load
from kdx.run.run import run

__all__ = ["toy_data"]

DISTILL = Path(__file__).parents[2] / "tools" / "distill.py"
RECIPE = """\
data: {{use: image_folder, root: {root}, size: 16, batch_size: 8}}
student: {{use: tests.toys.plain}}
epochs: 1
threads: 1
"""


def noise(seed: int, side: int = 24) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def root(tmp_path):
    """Image folders: three classes, eight images of each to train on and two to test on."""
    for split, n in (("train", 8), ("val", 2)):
        for label, name in enumerate(("ant", "bee", "owl")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                noise(10 * label + i).save(folder / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture
def job(tmp_path, root):
    """Return a function that runs the recipe as `distill.py` does: (exit code, what is printed)."""

    def start(*overrides, prepare=lambda: None):
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE.format(root=root))
        screen = io.StringIO()
        plugins = ["tests.toys", __name__]

        def main():
            recipe = load(path, overrides, plugins=plugins, output_root=tmp_path / "runs")
            prepare()
            run(recipe, Console(file=screen, width=200))

        return guarded(main), screen.getvalue()

    return start


@pytest.fixture(autouse=True)
def _without_tracebacks(monkeypatch):
    monkeypatch.delenv("KDX_DEBUG", raising=False)


def cut(path, keep=0.7):
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw))])


def exports(tmp_path) -> list:
    return list(tmp_path.glob("runs/**/summary.json"))


@pytest.mark.parametrize("part", ["train/owl/7", "val/owl/1"])
def test_a_body_cut_short_ends_the_run_with_its_name(part, job, root, tmp_path, capfd):
    cut(root / f"{part}.png")  # the header is whole: only decoding shows it
    code, _ = job()
    (said,) = capfd.readouterr().err.splitlines()
    assert (code, exports(tmp_path)) == (2, [])
    reason = "image file is truncated"
    assert said.startswith(f"error: {root}/{part}.png: the image cannot be decoded: {reason}")
    assert said.endswith("leave such images out with skip_bad")


def test_a_file_that_vanishes_after_opening(job, root, monkeypatch, capfd):
    from kdx.run import run as module

    train = module._train

    def vanished(*arguments, **named):
        (root / "train/owl/7.png").unlink()
        train(*arguments, **named)

    monkeypatch.setattr(module, "_train", vanished)
    assert job()[0] == 2
    said = capfd.readouterr().err
    path = f"{root}/train/owl/7.png"
    assert said == f"error: {path}: the image cannot be decoded: No such file or directory\n"


def test_a_bad_file_in_a_loader_process_ends_the_command_as_cleanly(root, tmp_path):
    cut(root / "train/owl/7.png")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(root=root))
    command = [sys.executable, str(DISTILL), "recipe.yaml", "data.workers=2"]
    done = subprocess.run(
        [*command, "--plugin", "tests.toys"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(DISTILL.parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"error: {root}/train/owl/7.png: the image cannot be decoded: image")
    assert done.returncode == 2
    left = (process.info["cwd"] for process in psutil.process_iter(["cwd"]))
    assert str(tmp_path) not in left


def test_bad_files_are_refused_before_anything_is_trained(job, root, tmp_path, capfd):
    (root / "train/ant/0.png").write_bytes(b"")
    (root / "train/ant/1.png").write_text("no image")
    Image.new("I;16", (24, 24)).save(root / "val/bee/0.png")
    assert job()[0] == 2
    said = capfd.readouterr().err
    assert said == (
        f"{tmp_path}/recipe.yaml:1: data: 'image_folder': image_folder: 3 of 30 files cannot be "
        f"read: {root}/train/ant/0.png: the file is empty; {root}/train/ant/1.png: not an image; "
        f"{root}/val/bee/0.png: mode I;16 has more than 8 bits, which would be clipped: scale it "
        "to 8 bits. Repair or remove them, or leave them out with skip_bad: 3 or more\n"
    )
    assert not (tmp_path / "runs").exists()


def test_bad_files_are_left_out_where_that_is_asked_for(job, root, tmp_path):
    cut(root / "train/owl/7.png")
    (root / "val/bee/0.png").write_text("no image")
    code, screen = job("data.skip_bad=2")
    assert (code, len(exports(tmp_path))) == (0, 1)
    assert "23 training images, 5 test images, 3 classes" in screen
    (note,) = (line for line in screen.splitlines() if line.startswith("note "))
    start = "note     image_folder: 2 of 30 files left out, which cannot be read: "
    undecoded = "the image cannot be decoded"
    assert note.startswith(f"{start}{root}/train/owl/7.png: {undecoded}: image file is truncated")
    assert note.endswith(f"; {root}/val/bee/0.png: {undecoded}: not an image")


def toy_data(*, fault: str = "none") -> ImageData:
    images = torch.zeros(24, 1, 16, 16, dtype=torch.uint8)
    labels = torch.arange(24) % 3
    if fault == "label":
        labels[17] = 3
    elif fault == "nan":
        images = torch.zeros(24, 1, 16, 16)
        images[5, 0, 2, 2] = torch.nan
    elif fault == "dtype":
        labels = labels.float()
    source = MemoryImages(images, labels, "toy")
    return ImageData(source, source, list("abc"), InputSpec(1, 16, (0.5,), (0.5,)))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("label", r"toy\[17\]: label 3 is not in \[0, 3\); 1 of 24 labels are wrong"),
        (
            "nan",
            r"toy: images must be a uint8 .*, not float32 \[24, 1, 16, 16\] with nan in sample 5",
        ),
        ("dtype", r"toy: labels must be an int64 tensor \[N\], not float32 \[24\]"),
    ],
)
def test_the_data_of_a_plug_in_are_checked_too(fault, message, job, tmp_path, capfd):
    assert job(f"data={{use: {__name__}.toy_data, fault: {fault}, batch_size: 8}}")[0] == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert re.search(rf"data.*toy_data': {message}", said)
    assert not (tmp_path / "runs").exists()


def test_a_teacher_of_other_classes_is_refused_before_training(job, tmp_path, capfd):
    assert job("data={use: digits, limit: 64, size: 16}", "name=ten")[0] == 0
    teacher = f"teacher={{use: tests.toys.plain, weights: {tmp_path}/runs/ten}}"
    assert job(teacher, "losses=[{use: kd}]", f"data={{use: {__name__}.toy_data}}")[0] == 2
    said, ten = capfd.readouterr().err, tmp_path / "runs" / "ten"
    assert said == (
        f"error: teacher.weights: {ten} has 10 classes, the data set has 3: "
        f"use weights of the same classes, or a new head: {{path: {ten}, head: new}}\n"
    )
