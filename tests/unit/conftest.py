"""Recipes that the tests of kdx's own modules share, a trained teacher, and one whole run."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from kdx.recipe import Recipe, load
from kdx.run.run import run

MINIMAL = """\
data: {use: digits, limit: 64, batch_size: 16}
student: {use: smallnet}
epochs: 1
"""


def silent() -> Console:
    return Console(file=io.StringIO(), width=200)


def loaded(root: Path, *overrides: str, name: str = "plain") -> Recipe:
    """Write the minimal recipe to <root>/digits/<name>.yaml and load it, runs into <root>/runs."""
    path = root / "digits" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(MINIMAL)
    return load(path, overrides, plugins=["tests.toys"], output_root=root / "runs")


@pytest.fixture
def recipe(tmp_path):
    """Return a function: overrides to the minimal recipe with them."""
    return lambda *overrides, name="plain": loaded(tmp_path, *overrides, name=name)


@pytest.fixture
def console():
    """Return a console that keeps what is printed: `console.file.getvalue()`."""
    return silent()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny networks gain nothing from threads, which crawl where the cores are busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdx.launch.cores.cores", lambda: 1)
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _short_timings():
    """An export is timed for two seconds, which says nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdx.exporting.latency.ROUNDS", (2, 2))
        yield


@pytest.fixture(scope="session")
def teacher_run(tmp_path_factory):
    """Return the run directory of a SmallNet that knows the digits somewhat."""
    root = tmp_path_factory.mktemp("teacher")
    what = ("data.limit=256", "epochs=4", "optimizer={use: AdamW, lr: 0.01}")
    return run(loaded(root, *what, name="teacher"), silent())


@pytest.fixture(scope="session")
def distilled(tmp_path_factory, teacher_run):
    """Return recipe, run directory and terminal of the main job: teacher, two stages, hint."""
    root, console = tmp_path_factory.mktemp("distilled"), silent()
    recipe = loaded(
        root,
        f"teacher={{use: smallnet, weights: {teacher_run}}}",
        "data.augment.crop=2",
        "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]",
        "losses=[{use: cross_entropy, weight: 0.5}, {use: kd, weight: 0.25},"
        " {use: hint, weight: 0.125, student_layer: fc1, teacher_layer: relu_fc1}]",
        "stages=[{phase: nonlinear}, {phase: linear, epochs: 2}]",
        name="distilled",
    )
    return recipe, run(recipe, console), console.file.getvalue()
