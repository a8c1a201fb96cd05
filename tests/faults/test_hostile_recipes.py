"""Recipes that ask for too much, or reach for what is not theirs: refused, with what would do."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdx.launch.memory import limited
from kdx.recipe import RecipeError, load
from kdx.run.run import run
from kdx.training.job import build
from kdx.util.errors import reason
from tests.faults.recipes import FULL, NUMBERS, mutated
from tests.unit.conftest import loaded, silent

ROOT = Path(__file__).parents[2]
HEAD = "data: {use: digits}\nstudent: {use: smallnet}\n"
SIZE = 60_000

SLOW = {
    "brackets": "[" * SIZE,
    "braces": "{" * SIZE,
    "sequences": "- " * (SIZE // 2),
    "keys": HEAD + "".join(f"k{i}: 1\n" for i in range(SIZE // 10)),
    "arguments": HEAD + f"losses: [{{use: kd, {', '.join(f'k{i}: 1' for i in range(5000))}}}]",
    "losses": HEAD + f"losses: [{'{use: kd},' * 1500}]",
    "stages": HEAD + f"stages: [{'{},' * 4500}]",
    "anchors": HEAD + "".join(f"a{i}: &a{i} 1\n" for i in range(4000)),
    "aliases": "a: &a [1]\nb: [" + "*a," * (SIZE // 4) + "]",
    "a tag": f"%TAG ! tag:{'x' * SIZE}\n---\n!a 1",
    "a long key": HEAD + f'"{"k" * SIZE}": 1',
    "a long value": HEAD + f"seed: {'9' * SIZE}",
    "a long name": HEAD + f"name: {'a/' * (SIZE // 2)}b",
    "a long use": HEAD.replace("smallnet", "kdx." + "a." * (SIZE // 2) + "b"),
    "a long path": HEAD + f"teacher: {{use: smallnet, weights: x, recipe: {'a' * SIZE}}}",
    "escapes": HEAD + 'name: "' + "\\x1b" * (SIZE // 4) + '"',
    "1 MB": HEAD + "#" * 2**20,
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW.keys())
def test_the_slowest_files_are_refused_soon(tmp_path, text):
    path = tmp_path / "slow.yaml"
    path.write_text(HEAD)
    load(path)  # imports what it names
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(RecipeError) as raised:
        load(path)
    assert time.process_time() - started < 1.0
    assert len(str(raised.value)) < 25_000


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_not_read(tmp_path, make):
    make(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match=r"recipe.yaml: cannot be read: it is a pipe or"):
        load(tmp_path / "recipe.yaml")
    (tmp_path / "student.yaml").write_text(
        HEAD + "teacher: {use: smallnet, weights: runs/x, recipe: recipe.yaml}"
    )
    with pytest.raises(RecipeError, match=r"'recipe.yaml' does not exist"):
        load(tmp_path / "student.yaml")


REACHING = [
    "os.system", "builtins.eval", "kdx.models.weights.os.system", "kdx.recipe.paths.os.system",
    "kdx.commands.shared.importlib.import_module", "kdx.recipe.registry.resolve", "kdx.recipe.load",
    "kdx.__init__.os", "kdx.__builtins__.eval", "kdx.data.__loader__.load_module",
    "expand.__class__.mro", "kdx.models.weights.load", "kdx.models.weights.save", "kdx.run.run.run",
    "kdx.checkpoints.prune", "kdx.data.sets.unpickle.read_pickle", "kdx.protocols.ImageData",
    "teachers.zoo.get_close_matches", "tools.distill.main", "torch.load", "kdx..os", "kdx.",
]  # fmt: skip


@pytest.mark.parametrize("place", ["data", "student", "losses.0", "schedule"])
def test_names_that_reach_for_more(tmp_path, place):
    (tmp_path / "a.yaml").write_text(HEAD)
    for use in REACHING:
        given = f"{place}={{use: {use}, lr: 1}}"
        with pytest.raises(RecipeError, match=re.escape(f"override '{given}': {place[:5]}")):
            load(tmp_path / "a.yaml", [given])


FOREIGN = {
    "timm, name: hf-hub:a/b": "timm has no model 'hf-hub:a/b'",
    "timm, name: 'local-dir:.'": "timm has no model 'local-dir:.'",
    "timm, name: resnet18, checkpoint_path: planted.pth": "checkpoint_path: a student starts",
    "timm, name: resnet18, pretrained: true": "pretrained: a student starts from random weights",
    "timm, name: resnet18, pretrained_cfg: {file: planted.pth}": "pretrained_cfg: a student",
    "torchvision, name: resnet18, weights_backbone: DEFAULT": "weights_backbone: a student starts",
    "teachers.timm, name: hf-hub:a/b, pretrained: true": "timm has no model 'hf-hub:a/b'",
    "teachers.timm, name: resnet18, checkpoint_path: planted.pth": "checkpoint_path is not supp",
    "teachers.timm, name: resnet18, pretrained_cfg: {file: planted.pth}": "pretrained_cfg is not",
    "teachers.timm, name: resnet18, pretrained: ../planted": "timm has no weights",
    "teachers.torchvision, name: resnet18, pretrained: planted.pth": "has no weights 'planted.pth",
    "teachers.resnet18, pretrained: ../planted.pth": "has no weights '../planted.pth'",
    "expand.expand, model: 1": "AttributeError: 'int' object has no attribute",
}


@pytest.mark.parametrize(("student", "message"), FOREIGN.items())
def test_networks_read_no_files_of_the_recipes_choice(tmp_path, monkeypatch, student, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "planted.pth").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    recipe = loaded(tmp_path, f"student={{use: {student}}}")
    with pytest.raises(RecipeError, match=re.escape(message)):
        recipe.student.component.build(num_classes=10, in_channels=3, image_size=32)
    assert not (tmp_path / "ran").exists()


LARGE = {
    f"epochs={10**18}": "should be at most 1,000,000",
    f"data.batch_size={10**18}": "should be at most 1,000,000",
    f"data.limit={10**18}": "should be at most 1,000,000,000,000",
    f"data.workers={10**6}": "neither 'auto' nor a whole number from 0 to 256",
    f"threads={10**6}": "should be at most 256",
    f"accumulate={10**18}": "should be at most 1,000,000",
    f"seed={2**63}": "should be at most 9,223,372,036,854,775,807",
    f"data.augment.crop={10**6}": "should be at most 1,024",
    f"teacher.memo.views={10**18}": "should be at most 1,000,000",
    f"teacher.input={{size: {10**6}}}": "should be at most 4,096",
    "optimizer.lr=1e308": "should be at most 1e+30",
    f"stages=[{'{},' * 101}]": "has 101 entries, but needs at most 100",
    f"data.size={10**5}": "size: 100000 must be 1 pixel or more, at most 1024",
    f"student.image_size={10**5}": "out of memory: 1.3 TB more needed",
    f"student.num_classes={10**9}": "out of memory: 256 GB more needed",
    "student={use: kdx.models.students.SmallNet, channels: [1000000000]}": "out of memory: ",
    "student.transforms.0.rate=1e9": "rate: 1000000000.0 must be above 0 and at most 64",
    "student.transforms.0.overrides={'*': {widths: [1000000000, 1]}}": "is not a list of channel",
    "losses.1.temperature=1e308": "is not a finite number above 0, at most 1e+06",
    "schedule.gamma=1e308": "gamma: 1e+308 at 1 milestones is above 1e8",
    "schedule.warmup=1e308": "warmup: 1e+308 must be 0 or more epochs, at most 1,000,000",
    "optimizer.weight_decay=1e308": "'SGD': its first step fails: RuntimeError: value cannot be c",
    "optimizer={use: Adam, lr: 0.1, differentiable: true}": "'Adam': its first step fails: ",
    "data={use: digits, validation: 10000000000000000000}": "of 1437 training samples",
}


@pytest.mark.parametrize(("given", "message"), LARGE.items())
def test_numbers_that_no_run_can_have(tmp_path, given, message):
    path = tmp_path / "large.yaml"
    path.write_text(yaml.dump(FULL))
    student = ["stages=[{}]", "student.transforms=[]"] * given.startswith("student={")
    with pytest.raises(ValueError, match=re.escape(message)):
        build(load(path, [given, *student]))


def test_what_exceeds_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("kdx.launch.memory.os.sysconf", lambda name: 2450)  # 6 MB
    assert build(loaded(tmp_path)).data.input.size == 32
    for data, message in (
        ("size: 64", "digits: 1,797 images of size: 64: 22.1 MB, but this machine has 6 MB"),
        (
            "batch_size: 1437, augment: {crop: 31}",
            "crop: 1,437 images padded by 31 pixels: 12.7 MB",
        ),
        ("channels: 3, batch_size: 2000", "batch_size: 1,437 images of 3 x 32 x 32 at once: 17.7"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            build(loaded(tmp_path, f"data={{use: digits, {data}}}"))


def test_an_allocation_that_would_not_fit_fails():
    with limited(), pytest.raises(RuntimeError, match="allocate memory") as raised:
        torch.empty(10**12)
    assert reason(raised.value) == "out of memory: 4 TB more needed"
    assert reason(RuntimeError("odd size\nException raised from f\nframe #0: g")) == (
        "RuntimeError: odd size"
    )


PLANTED = ["recipe.yaml", "tensorboard", "tensorboard/events"]


@pytest.mark.parametrize("name", PLANTED)
def test_a_run_does_not_write_through_planted_links(tmp_path, name):
    recipe = loaded(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("precious")
    place = recipe.run_dir / name
    place.parent.mkdir(parents=True)
    if name != "recipe.yaml":
        (recipe.run_dir / "recipe.yaml").touch()
    place.symlink_to(outside if name == "tensorboard" else outside / "mine")
    with pytest.raises(
        ValueError, match=rf"{name} is a symbolic link to .*: runs do not write through"
    ):
        run(recipe, silent())
    assert [path.name for path in outside.iterdir()] == ["mine"]
    assert (outside / "mine").read_text() == "precious"


def distill(folder, *arguments):
    """Run tools/distill.py in a folder of its own; return exit code and what it said."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "HOME": str(folder / "home"), "OMP_NUM_THREADS": "1",
        "https_proxy": "http://127.0.0.1:9", "KDX_DEBUG": "",
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "tools" / "distill.py"), *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def check_command(folder, *arguments):
    before = sorted(folder.rglob("*"))
    code, said = distill(folder, *arguments, "--dry-run", "--output-root", str(folder / "out"))
    assert "Traceback" not in said, said
    assert code in (0, 2), said
    assert code == 0 or said.strip(), "it says why"
    assert sorted(folder.rglob("*")) == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    (folder / "home").mkdir()
    (folder / "recipe.yaml").write_text(yaml.dump(FULL))
    return folder


@pytest.mark.long
@pytest.mark.parametrize("given", ["seed=1", *LARGE])
def test_commands_with_numbers_that_no_run_can_have(folder, given):
    check_command(folder, "recipe.yaml", given)


@pytest.mark.long
@settings(max_examples=40, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated([FULL], st.one_of(NUMBERS, st.sampled_from(["../x", "[/x]", True, None, []]))))
def test_commands_with_mutated_recipes(folder, data):
    path = folder / "mutated.yaml"
    path.write_text(yaml.dump(data, allow_unicode=True))
    check_command(folder, "mutated.yaml")
