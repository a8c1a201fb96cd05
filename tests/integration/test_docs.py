"""The documentation says what the code does."""

import json
import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

import expand
import kdx
from kdx import losses
from kdx.commands.list import KINDS, catalogue, rows
from kdx.data import BoxImages, MaskImages, preparation, sets
from kdx.data.augment import normalise
from kdx.models import students, weights
from kdx.protocols import InputSpec
from kdx.recipe import beside, load
from kdx.recipe.data import Data
from kdx.recipe.schema import Recipe
from kdx.recipe.sections import Student, Teacher
from kdx.recipe.yaml_source import scalar
from kdx.tasks import Detection
from kdx.training import schedules
from tests.contracts import check_transform

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(ROOT.glob("configs/*/*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_shipped_recipe_is_valid(path, tmp_path):
    recipe = load(path, output_root=tmp_path)
    assert recipe.run_dir.is_relative_to(tmp_path)
    if recipe.teacher and recipe.teacher.weights:
        assert recipe.teacher.recipe is not None
        teacher = beside(recipe, recipe.teacher.recipe)
        assert str(teacher.run_dir) == recipe.teacher.weights
        trained = dict(teacher.student.component.arguments)
        trained.pop("pretrained", None)  # what it started from, before it had weights of its own
        assert trained == dict(recipe.teacher.component.arguments)


def test_the_readme_shows_the_recipe_that_it_names():
    shown = re.search(r"```yaml\n# (\S+)\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert shown is not None
    path, text = shown.groups()
    kept = [line for line in (ROOT / path).read_text().splitlines() if not line.startswith("#")]
    assert text.splitlines() == kept


def test_every_key_and_every_name_is_documented():
    text = (ROOT / "docs" / "recipes.md").read_text()
    keys = {*Recipe.model_fields}
    for prefix, section in (("data", Data), ("teacher", Teacher), ("student", Student)):
        keys |= {f"{prefix}.{name}" for name in section.model_fields if name != "component"}
    names = {*sets.TABLE, *losses.TABLE, *schedules.TABLE, *students.TABLE}
    missing = [word for word in sorted(keys | names) if f"`{word}`" not in text]
    assert missing == []


def test_every_option_and_preset_of_expand_is_documented():
    text = (ROOT / "docs" / "expand.md").read_text()
    names = {*expand.Options.__annotations__, *expand.PRESETS}
    names |= {field.name for field in fields(expand.Settings)} - {"conv", "linear"}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def documented_arguments(heading: str) -> set[tuple[str, str, object]]:
    """Return (name, argument, default) of the table below `heading`; `...` for no default."""
    text = (ROOT / "docs" / "recipes.md").read_text()
    below = text.partition(f"| {heading} | argument | default | meaning |\n")[2]
    found = set()
    for line in below.partition("\n\n")[0].splitlines()[1:]:
        names, argument, default, meaning = (cell.strip() for cell in line.split("|")[1:-1])
        assert meaning
        value = scalar(default.strip("`")) if default else ...
        found |= {(name.strip("` "), argument.strip("`"), value) for name in names.split(",")}
    return found


@pytest.mark.parametrize("what", KINDS)
def test_every_name_is_in_the_table_of_names(what):
    heading = {"datasets": "data sets"}.get(what, what)
    text = (ROOT / "docs" / "recipes.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| {heading} | "))
    names = {entry.name for entry in catalogue(KINDS[what])}
    listed = set(re.findall("`(.*?)`", row)) - {"warmup"}
    assert listed == names if what != "optimizers" else listed < names


@pytest.mark.parametrize("heading", ["data set", "network", "loss", "schedule"])
def test_every_argument_is_documented_with_its_default(heading):
    catalogued = {
        (entry.name, argument, scalar(default) if default else ...)
        for entry in catalogue(heading.replace(" ", ""))
        for argument, default, _ in rows(entry)
    }
    assert documented_arguments(heading) == catalogued


def test_the_readmes_overrides_work(tmp_path):
    command = re.search(
        r"    kdx distill (\S+_kd\.yaml) (.+)$", (ROOT / "README.md").read_text(), re.M
    )
    assert command is not None
    path, overrides = command.group(1), command.group(2).split()
    recipe = load(ROOT / path, overrides, output_root=tmp_path)
    assert (recipe.epochs, recipe.data.batch_size, recipe.data.limit) == (120, 64, {"train": 2000})
    assert recipe.teacher.memo.views == 24


def test_the_loading_code_without_kdx_runs(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "running.md").read_text()
    code = re.search(r"```python\n(import json\n.*?)```", text, re.S)
    assert code is not None
    path = re.search(r'path = "(.*)"', code.group(1))
    assert path is not None
    monkeypatch.chdir(tmp_path)
    Path(path.group(1)).parent.mkdir(parents=True)
    trained = students.smallnet(kernel_size=7, num_classes=10, in_channels=3, image_size=32)
    spec = InputSpec(3, 32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    weights.save(trained, path.group(1), input=spec, classes=10)
    namespace: dict = {}
    exec(code.group(1), namespace)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(namespace["student"](images), trained.eval()(images))
    assert namespace["images"] == json.loads(json.dumps(asdict(spec)))


def test_the_preprocessing_code_reproduces_the_evaluation(tmp_path):
    text = (ROOT / "docs" / "running.md").read_text()
    code = re.search(r"```python\n(import json\n\nimport numpy.*?)```", text, re.S)
    assert code is not None
    namespace: dict = {}
    exec(code.group(1), namespace)
    torch.manual_seed(0)
    sizes = [(41, 80), (97, 33), (64, 64), (36, 36), (120, 75), (32, 32)]
    for split, kind in ((s, k) for s in ("train", "val") for k in range(3)):
        (tmp_path / split / f"{kind}").mkdir(parents=True)
        for number, (height, width) in enumerate(sizes):
            pixels = torch.randint(kind * 40, 256, (height, width, 3), dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(tmp_path / split / f"{kind}" / f"{number}.png")
    given = {
        "data": {"use": "image_folder", "root": str(tmp_path), "size": 32, "batch_size": 6},
        "student": {"use": "smallnet"},
        "optimizer": {"use": "SGD", "lr": 0.01},
    }
    run = kdx.distill(given, epochs=1, output_root=tmp_path / "runs", quiet=True)
    how = namespace["preprocessing"](run.path / "student.safetensors")
    assert how == run.summary.preprocessing
    files = sorted((tmp_path / "val").rglob("*.png"))
    images = torch.stack([namespace["prepare"](path, how) for path in files])
    targets = torch.tensor([int(path.parent.name) for path in files])
    with torch.no_grad():
        logits = run.student(images)
    loss = torch.nn.functional.cross_entropy(logits, targets).item()
    found = kdx.evaluate(run.path).metrics
    assert (logits.argmax(1) == targets).float().mean().item() == pytest.approx(found["top1"])
    assert loss == pytest.approx(found["loss"], rel=1e-6)
    report = (run.path / "report.md").read_text()
    assert "the shorter side resized to 37 pixels (bilinear, antialiased, Pillow), unl" in report


@pytest.mark.parametrize("size", [(375, 500), (200, 333), (500, 375)])
def test_the_guide_to_detectors_letterboxes_as_the_evaluation(size, tmp_path):
    text = (ROOT / "docs" / "detection.md").read_text()
    code = re.search(r"(height, width = photo.*?\n)\nwith torch", text, re.S)
    assert code is not None
    pixels = torch.randint(256, (*size, 3), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path := tmp_path / "a.png")
    namespace = {"photo": pixels.permute(2, 0, 1), "functional": functional, "torch": torch}
    exec(code.group(1), namespace)
    boxes = BoxImages([str(path)], [torch.zeros(0, 6)], torch.zeros(1, dtype=torch.int64))
    spec = InputSpec(3, 416, (0.0,) * 3, (1.0,) * 3)
    assert torch.equal(namespace["seen"], boxes.view(0, spec, None)[0])


def test_the_guide_to_detectors_runs(capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "detection.md").read_text(), re.S)
    assert code is not None
    torch.manual_seed(0)
    sure = code.group(1).replace("score=0.3", "score=0.02")  # random weights are not
    namespace: dict = {}
    exec(sure, namespace)
    assert namespace["output"].shape == (1, 2 * 25, 13, 13)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(namespace["found"].scores) > 0


def test_every_metric_of_detection_is_documented():
    text = (ROOT / "docs" / "detection.md").read_text()
    task = Detection(classes=["ant", "bee"], anchors=[[1, 1]])
    measured = task.meter(torch.device("cpu")).compute()
    assert [name for name in {*measured, *task.metrics} if f"`{name}`" not in text] == []


def test_the_plugin_guides_loss_runs(tmp_path, monkeypatch):
    code = re.search(r"```python\n# my_pkg/losses.py\n(.*?)```",
                     (ROOT / "docs" / "plugins.md").read_text(), re.S)  # fmt: skip
    assert code is not None
    namespace: dict = {}
    exec(code.group(1), namespace)
    outputs = [type("O", (), {"logits": torch.full((2, 3), value)}) for value in (1.0, 3.0)]
    assert float(namespace["LogitMSE"](scale=2.0)(*outputs, None)) == 8.0


def test_the_plugin_guides_transform_keeps_its_contract():
    text = (ROOT / "docs" / "plugins.md").read_text()
    code = re.search(r"```python\n# my_pkg/transforms.py\n(.*?)```", text, re.S)
    assert code is not None
    assert len(code.group(1).splitlines()) < 55
    namespace: dict = {}
    exec(code.group(1), namespace)
    kind = namespace["WeightNorm"]
    check_transform(kind, students.smallnet, (4, 3, 32, 32), phases=[])
    plan = kind(exclude="conv1").plan(students.smallnet())
    assert plan == "conv1  excluded\nconv2  normalised\nconv3  normalised"


def test_the_segmentation_guides_code_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "segmentation.md").read_text()
    ids, use = re.findall(r"```python\n(.*?)```", text, re.S)
    namespace: dict = {}
    exec(ids, namespace)
    assert namespace["ids"][:3] == [7, 8, 11]
    assert len(namespace["ids"]) == 19
    monkeypatch.chdir(tmp_path)
    Path("runs/scenes/unet").mkdir(parents=True)
    names = [each.name for each in namespace["evaluated"]]
    recipe = load(ROOT / "configs/scenes/unet.yaml", output_root=tmp_path)
    trained = recipe.student.component.build(num_classes=19, in_channels=3)
    spec = InputSpec(3, (32, 48), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    path = "runs/scenes/unet/student.safetensors"
    pixels = torch.randint(256, (45, 90, 3), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save("scene.png")
    Image.fromarray(pixels[..., 0].numpy()).save("mask.png")
    table, labels = torch.zeros(256, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    source = MaskImages(["scene.png"], ["mask.png"], table, labels)
    extra = {"class_names": names, "preprocessing": preparation(source, spec)}
    weights.save(trained, path, input=spec, classes=19, extra=extra)
    exec(use, namespace)
    with torch.no_grad():
        answer = trained.eval()(normalise(source.view(0, spec, None)[0][None], spec))
    assert torch.equal(namespace["mask"], answer.argmax(1)[0])
    assert capsys.readouterr().out == f"{[names[n] for n in answer.argmax(1).unique()]}\n"
