"""The recipes in configs/methods, one for each distillation method, train and export."""

import json
from math import isfinite
from pathlib import Path

import pytest

import kdx
from kdx.losses import TABLE
from kdx.recipe import load

METHODS = sorted((Path(__file__).resolve().parents[2] / "configs/methods").glob("*.yaml"))
TASKS = {  # the losses that are not methods for images with a class each
    "cross_entropy", "yolo", "yolo_kd", "bce", "bce_kd", "mse", "l1", "smooth_l1"
}  # fmt: skip
TINY = {
    "epochs": 2,
    "threads": 1,
    "data.limit": {"train": 32, "test": 16},
    "data.batch_size": 16,
}
UNTAUGHT = {
    "teacher.weights": None,
    "teacher.recipe": None,
    "teacher.allow_chance": True,
}


def method(path):
    """Return the loss that a recipe is about: beside cross-entropy, the only one."""
    first, second = (term.component.use for term in load(path).losses)
    assert first == "cross_entropy"
    return second


def test_every_method_has_a_recipe_of_its_name():
    found = {path.stem: method(path) for path in METHODS}
    assert set(found.values()) == set(TABLE) - TASKS
    assert all(stem.startswith(loss) for stem, loss in found.items())


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_a_method_trains_and_exports(path, tmp_path):
    teacher = load(path).teacher
    untaught = UNTAUGHT if teacher and teacher.weights else {}
    run = kdx.distill(path, **TINY, **untaught, output_root=tmp_path, quiet=True)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    first, second = (line[f"loss/{method(path)}"] for line in lines)
    assert isfinite(first)
    assert isfinite(second)
    assert first != second
    assert json.loads((run.path / "certificate.json").read_text())["holds"]
