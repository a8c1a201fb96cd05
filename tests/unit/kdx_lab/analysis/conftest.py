"""Finished runs to look into: two seeds of a compact network, and an expanded one that distils."""

from pathlib import Path

import pytest

from kdx.run.run import run
from kdx_lab.analysis.runs import Run, find_runs
from tests.unit.conftest import loaded, silent
from tests.unit.runs import EXPAND, SGD

LOSSES = (
    "losses=[{use: cross_entropy, weight: 0.5}, {use: kd, weight: 0.25},"
    " {use: hint, weight: 0.125, student_layer: fc1, teacher_layer: relu_fc1}]"
)


def opened(path: Path) -> Run:
    (found,) = find_runs([path], plugins=["tests.toys"], output_root=str(path.parent))
    return found


@pytest.fixture(scope="session")
def study(tmp_path_factory, teacher_run):
    """Return the directory of runs/studies/tiny: compact/seed_0, compact/seed_1, init/seed_0."""
    root = tmp_path_factory.mktemp("study")
    kept = ("keep_checkpoints=9", SGD, "data.augment.crop=2")
    for seed in (0, 1):
        name = f"name=studies/tiny/compact/seed_{seed}"
        run(loaded(root, *kept, "epochs=2", f"seed={seed}", name), silent())
    staged = "stages=[{phase: nonlinear}, {phase: linear, epochs: 2}]"
    teacher = f"teacher={{use: smallnet, weights: {teacher_run}}}"
    name = "name=studies/tiny/init/seed_0"
    run(loaded(root, *kept, EXPAND, LOSSES, staged, teacher, name), silent())
    return root / "runs" / "studies" / "tiny"


@pytest.fixture
def compact(study):
    return opened(study / "compact" / "seed_0")


@pytest.fixture
def expanded(study):
    return opened(study / "init" / "seed_0")


@pytest.fixture(scope="session")
def averaged(tmp_path_factory):
    """An expanded run that exports an average; another one teaches, more in each epoch."""
    weight = "{from: 0, to: 1, epochs: 2}"
    losses = f"losses=[{{use: cross_entropy}}, {{use: kd, teacher: mean, weight: {weight}}}]"
    more = ("teachers={mean: {use: ema}}", losses, "average={use: ema, decay: 0.9}")
    root = tmp_path_factory.mktemp("averaged")
    return opened(run(loaded(root, "keep_checkpoints=9", SGD, "epochs=2", EXPAND, *more), silent()))
