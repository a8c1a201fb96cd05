"""The wheel, installed into an empty environment outside of the checkout, trains."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("kdx", "kdx_lab", "expand", "teachers", "configs")


@pytest.fixture(scope="module")
def kdx(tmp_path_factory):
    """Return a function that runs the installed `kdx` in a directory of its own."""
    place = tmp_path_factory.mktemp("wheel")
    source, environment = place / "source", place / "environment"
    source.mkdir()
    for name in SOURCES:  # a copy: a build leaves files, and must not find those of an earlier one
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copyfile(ROOT / name, source / name)
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}

    def call(*command: object, cwd: Path = place) -> str:
        done = subprocess.run(
            list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    call(*pip, "wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", place)
    (wheel,) = place.glob("kdx-*.whl")
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    call(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    # The dependencies of the tests' environment, but not what it installs of kdx: *.pth files
    # are not read in a directory that one names.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    work = place / "work"
    work.mkdir()
    code = "import kdx, kdx_lab, expand, teachers as t; "
    found = call(python, "-c", f"{code}print(*(m.__file__ for m in (kdx, kdx_lab, expand, t)))")
    assert all(Path(path).is_relative_to(packages) for path in found.split())
    return lambda *arguments: call(environment / "bin" / "kdx", *arguments, cwd=work), work


def test_a_shipped_recipe_is_copied_and_trained(kdx):
    run, work = kdx
    name = "digits/resnet18_to_smallnet3_cl_fc_kd"
    assert name in run("recipes")
    copied = run("recipes", "copy", name)
    assert copied.splitlines()[-1] == f"run it: kdx distill {name}.yaml"
    # A compact teacher: a ResNet-18 takes longer than all the rest.
    teacher = "teacher={use: smallnet, allow_chance: true}"
    tiny = ("data.limit=64", "epochs=1", teacher)
    run("distill", f"{name}.yaml", *tiny)
    assert (work / "runs" / name / "student.safetensors").is_file()
    assert (work / "runs" / name / "summary.json").is_file()
    page = (work / "runs" / name / "report.html").read_text()  # by templates of the wheel
    assert f"<h1>{name}</h1>" in page
    assert "font-variant-numeric" in page


def test_every_shipped_file_is_in_the_wheel(kdx):
    run, _ = kdx
    shipped = {line for line in run("recipes").splitlines() if not line.startswith(" ")}
    files = ROOT.glob("configs/**/*.yaml")
    names = {path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in files}
    assert shipped == names
