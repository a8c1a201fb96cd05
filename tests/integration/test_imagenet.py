"""The recipes for ImageNet and the commands of their README, on a small folder of images."""

import io
import re
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from kdx.models.students import mobilenet_v2
from kdx.recipe import load
from kdx.run.run import run
from kdx.training.job import build

FOLDER = Path(__file__).resolve().parents[2] / "configs/imagenet"
RECIPES = sorted(path.name for path in FOLDER.glob("*.yaml"))
CLASSES = 8
TEACHER = [
    "teacher.use=teachers.resnet18",
    "teacher.pretrained=null",
    "teacher.allow_chance=true",
]
"""In the place of the published ResNet-152: one with random weights."""


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Images of eight classes, each of another colour: two to train on and one to test."""
    root = tmp_path_factory.mktemp("imagenet")
    colors = torch.randint(256, (CLASSES, 3), generator=torch.Generator().manual_seed(0)).tolist()
    for name, split in (("0.png", "train"), ("1.png", "train"), ("2.png", "val")):
        for number, color in enumerate(colors):
            folder = root / split / f"n{number:08d}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (90, 72), tuple(color)).save(folder / name)
    return root


def small(name: str, images: Path, *more: str, **how):
    data = ["size=64", "workers=0", "batch_size=8", f"root={images}"]
    teacher = TEACHER if name.startswith("resnet152") else []
    overrides = [*(f"data.{each}" for each in data), *teacher, "threads=1", *more]
    return load(FOLDER / name, overrides, **how)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds(name, images, tmp_path):
    job = build(small(name, images, output_root=tmp_path))
    trained, compact = (job.rehearsal.parameters[which] for which in ("trained", "compact"))
    assert trained > compact
    assert bool(job.teachers) == name.startswith("resnet152")


def test_a_recipe_runs_and_gives_the_plain_network(images, tmp_path):
    recipe = small(
        "resnet152_to_mobilenet_v2_cl.yaml",
        images,
        "epochs=2",
        "data.size=32",
        output_root=tmp_path,
    )
    run_dir = run(recipe, Console(file=io.StringIO()))
    plain = mobilenet_v2(num_classes=CLASSES)
    plain.load_state_dict(load_file(run_dir / "student.safetensors"), strict=True)
    assert (run_dir / "certificate.json").is_file()


def commands() -> list[list[str]]:
    """Return the arguments of the README's commands, as a shell would pass them."""
    text = (FOLDER / "README.md").read_text()
    arrays = dict(re.findall(r"^(\w+)=\((.*?)\)$", text, re.M | re.S))
    lines = re.findall(r"^distill (.*)", text, re.M)
    spelled = (re.sub(r'"\$\{(\w+)\[@\]\}"', lambda m: arrays[m[1]], line) for line in lines)
    return [shlex.split(line, comments=True) for line in spelled]


def test_the_readmes_commands_are_different_runs(tmp_path):
    recipes = [load(FOLDER / name, more, output_root=tmp_path) for name, *more in commands()]
    assert len({recipe.run_dir for recipe in recipes}) == len(recipes) == 30
    for recipe in recipes:
        name = recipe.run_dir.name
        assert (recipe.teacher is not None) == name.startswith("resnet152_to")
        assert bool(recipe.student.transforms) == ("_cl" in name or "_ck" in name)
        assert recipe.student.component.use in name
        if name.endswith(("_90", "_400")):
            assert recipe.epochs == int(name.rpartition("_")[2])
        if recipe.student.component.use == "alexnet":
            channels = next((n for n in (128, 512) if name.endswith(str(n))), 256)
            assert recipe.student.component.arguments["channels"] == channels
