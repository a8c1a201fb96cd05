"""The scripts of docs/library.md run as they stand, and give what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kdx

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.S)
NAMED = {block.split("\n")[0].removeprefix("# "): block for block in BLOCKS if block[0] == "#"}
SCRIPTS = ["bare.py", "with_lightning.py", "with_transformers.py", "with_timm.py"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a directory with the scripts, and what they may need of the repository."""
    place = tmp_path_factory.mktemp("library")
    (place / "configs").symlink_to(ROOT / "configs")
    for name, block in NAMED.items():
        (place / name).write_text(block)
    return place


def output_of(place, *arguments):
    """Run Python in `place` and return the last line that it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, *arguments], cwd=place, env=environment,
                         capture_output=True, text=True)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1]


def test_the_page_has_these_scripts_of_at_most_40_lines():
    assert list(NAMED) == ["digits.py", *SCRIPTS]
    assert max(len(block.splitlines()) for block in NAMED.values()) <= 40


@pytest.mark.parametrize("name", SCRIPTS)
def test_training_loops_distil_certify_and_export(place, name):
    printed = output_of(place, name)
    found = re.fullmatch(r"accuracy (0\.\d+) certificate True", printed)
    assert found is not None, printed
    assert float(found[1]) > 0.7  # chance is 0.1


def test_the_three_lines_run(place):
    accuracy, problems, path = output_of(place, "-c", BLOCKS[0]).split()
    assert 0.1 < float(accuracy) <= 1
    assert (problems, path) == ("[]", "runs/digits/smallnet3")


def test_the_dict_is_a_recipe(place):
    assert output_of(place, "-c", BLOCKS[1]) == "True"
    run = kdx.Run.open(place / "runs/digits/tiny")
    assert run.summary.epochs == 3
    assert run.summary.parameters["trained"] > run.summary.parameters["compact"]
    recipe = (run.path / "recipe.yaml").read_text()
    assert "batch_size: 32" in recipe
    assert "use: AdamW\n  lr: 0.001\n" in recipe


@pytest.mark.long
def test_the_notebook_runs(place):
    student, teacher = map(float, output_of(place, "-c", BLOCKS[2]).split())
    assert student > 0.5  # chance is 0.1
    assert teacher > 0.8
