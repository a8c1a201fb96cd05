"""kdx.distill, Run and load_student, on recipes."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

import kdx
from kdx.models import weights
from kdx.protocols import InputSpec
from kdx.recipe import load
from kdx.run.interface import overrides_of
from tests.toys import plain
from tests.unit.conftest import MINIMAL

DICT = {
    "data": {"use": "digits", "limit": 64, "batch_size": 16},
    "student": {"use": "smallnet"},
    "epochs": 1,
}


@pytest.fixture
def distill(tmp_path):
    """Return kdx.distill, silent, with runs below tmp_path."""

    def distilled(*given, **settings):
        return kdx.distill(*given, output_root=tmp_path / "runs", quiet=True, **settings)

    return distilled


def exported(run):
    return (run.path / "student.safetensors").read_bytes()


def test_a_path_a_mapping_and_a_recipe_give_the_same_run(distill, tmp_path):
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    first = distill(path, name="run")
    recipe = (first.path / "recipe.yaml").read_bytes()
    second = distill(DICT, name="run", overwrite=True)
    assert exported(second) == exported(first)
    assert (second.path / "recipe.yaml").read_bytes() == recipe
    third = distill(load(path, ["name=third"], output_root=tmp_path / "runs"))
    assert exported(third) == exported(first)
    assert distill(DICT).path == tmp_path / "runs/python/smallnet"


def test_a_run_has_what_its_directory_has(distill):
    run = distill(DICT, name="run", optimizer={"use": "AdamW", "lr": 0.01})
    assert run.metrics == run.summary.test
    assert run.metrics["top1"] == run.certificate.metrics["compact"]["top1"]
    assert run.certificate.problems == []
    assert run.certificate.float32.images == 64
    assert not run.student.training
    again = kdx.Run.open(run.path)
    assert (again.summary, again.certificate) == (run.summary, run.certificate)
    images = torch.randn(2, *weights.read_spec(run.path).shape)
    assert torch.equal(again.student(images), run.student(images))
    assert torch.equal(kdx.load_student(run.path / "student.safetensors")(images),
                       run.student(images))  # fmt: skip
    with pytest.raises(ValueError, match="not a finished run"):
        kdx.Run.open(run.path.parent)


def test_a_run_prints_its_directory_and_metrics(distill):
    run = distill(DICT)
    assert repr(run).startswith(f"Run({str(run.path)!r}, top1=0.")
    assert len(repr(run)) < len(str(run.path)) + 60


def test_the_callers_generators_threads_and_accelerate_state_come_back(distill):
    accelerator = Accelerator()
    before = [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()]
    distill(DICT, threads=np.int64(1), seed=np.int32(5))
    after = [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()]
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert AcceleratorState().mixed_precision == accelerator.mixed_precision == "no"


def test_runs_are_kept_resumed_and_overwritten(distill):
    run = distill(DICT, name="run")
    with pytest.raises(FileExistsError, match="run"):
        distill(DICT, name="run")
    written = (run.path / "summary.json").stat().st_mtime_ns
    assert distill(DICT, name="run", resume=True).summary == run.summary
    assert (run.path / "summary.json").stat().st_mtime_ns == written
    distill(DICT, name="run", overwrite=True)
    assert (run.path / "summary.json").stat().st_mtime_ns != written
    with pytest.raises(ValueError, match="resume continues a run, overwrite replaces it: choose"):
        distill(DICT, resume=True, overwrite=True)


def test_a_checkpoint_to_fork_from_is_passed_on(distill, monkeypatch):
    passed = {}
    monkeypatch.setattr("kdx.run.interface.run", lambda *_, **options: passed.update(options))
    for fork in (None, "runs/a"):
        with pytest.raises(TypeError):  # there is no run to open
            distill(DICT, fork=fork)
        assert passed.pop("fork", None) == (fork and Path(fork))
        assert passed == {"overwrite": False, "resume": False}


def test_overrides_merge_replace_and_reach_into_lists(distill):
    settings = {
        "data": {"batch_size": 32, "limit": {"train": 40}},
        "optimizer": {"use": "SGD", "lr": 1e-05},
        "student.transforms.0": {"use": "expand.ExpandNet", "conv": "cl", "rate": 2},
        "name": "läuft\n",
        "teacher": None,
    }
    texts = ["data.batch_size=32", "data.limit.train=40", 'optimizer={"use": "SGD", "lr": 1e-05}',
             'student.transforms.0={"use": "expand.ExpandNet", "conv": "cl", "rate": 2}',
             'name="läuft\\n"', "teacher=null"]  # fmt: skip
    assert overrides_of(settings) == texts
    given = {**DICT, "data": {"use": "digits"}}
    run = distill(given, **settings | {"name": "merged"}, **{"student.transforms.0.rate": 3})
    recipe = load(run.path / "recipe.yaml")
    assert (recipe.data.batch_size, recipe.data.limit) == (32, {"train": 40})
    assert recipe.optimizer.component.arguments == {"lr": 1e-05}
    assert recipe.student.transforms[0].arguments["rate"] == 3


def test_problems_come_all_at_once(distill):
    with pytest.raises(kdx.RecipeError) as caught:
        distill({**DICT, "epoch": 3}, student={"use": "smalnet"}, epochs="many")
    places = {problem.where for problem in caught.value.problems}
    assert places == {"epoch", "student.use", "epochs"}
    assert "override 'student={" in str(caught.value)
    with pytest.raises(kdx.RecipeError, match=r"the recipe: student"):
        distill({"data": {"use": "digits"}})


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ([], {"student": plain}, r"train, test: missing: pass a recipe \(a path or a mapping\)"),
        ([{**DICT, "student": {"use": plain}}], {}, "function objects cannot stand in a recipe"),
        ([DICT], {"losses": [kdx.losses.KD()]}, "KD objects cannot stand in a recipe: pass"),
    ],
)
def test_recipes_hold_no_objects(distill, given, settings, message):
    with pytest.raises(ValueError, match=message):
        distill(*given, **settings)


def test_a_loaded_recipe_takes_no_overrides(distill, tmp_path):
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    with pytest.raises(ValueError, match=r"epochs: a Recipe takes no overrides: pass them to load"):
        distill(load(path), epochs=3)


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves a network with metadata and returns it and its path."""

    def save(network, *, name="a.safetensors", **extra):
        path = tmp_path / name
        weights.save(network, path, input=InputSpec(1, 8, (0.5,), (0.5,)), classes=4, extra=extra)
        return network.eval(), path

    return save


def test_students_are_built_as_their_files_say(saved):
    network = kdx.students.smallnet(kernel_size=7, num_classes=4, in_channels=1, image_size=8)
    images = torch.randn(2, 1, 8, 8)
    told = {"use": "smallnet", "arguments": {"kernel_size": 7}}
    network, path = saved(network, **told, facts={"num_classes": 4})
    assert torch.equal(kdx.load_student(path)(images), network(images))
    _, path = saved(network, **told)
    assert torch.equal(kdx.load_student(str(path))(images), network(images))


def test_students_of_plug_ins_need_them(saved):
    network, path = saved(plain(num_classes=4, in_channels=1), use="tests.toys.plain")
    with pytest.raises(kdx.RecipeError, match=r"'tests.toys.plain' is outside the modules"):
        kdx.load_student(path)
    images = torch.randn(2, 1, 8, 8)
    loaded = kdx.load_student(path, plugins=["tests.toys"])
    assert torch.equal(loaded(images), network(images))


def test_published_weights_are_not_fetched_again(saved, monkeypatch):
    asked = {}

    def build(**given):
        asked.update(given)
        return plain(num_classes=given["num_classes"], in_channels=1)

    def published(*, num_classes: int, pretrained: bool = True) -> torch.nn.Module:
        return build(num_classes=num_classes, pretrained=pretrained)

    monkeypatch.setattr("tests.toys.published", published)
    _, path = saved(plain(num_classes=4, in_channels=1), use="tests.toys.published",
                    arguments={"pretrained": True})  # fmt: skip
    kdx.load_student(path, plugins=["tests.toys"])
    assert asked == {"num_classes": 4, "pretrained": False}


def test_files_that_do_not_say_need_a_network(saved, tmp_path):
    network, path = saved(plain(num_classes=4, in_channels=1))
    for unsaid in (path, tmp_path / "b.pt"):
        torch.save(network.state_dict(), tmp_path / "b.pt")
        message = r"does not say how to build its network. Build it and"
        with pytest.raises(ValueError, match=message):
            kdx.load_student(unsaid)
        other = plain(num_classes=4, in_channels=1)
        assert kdx.load_student(unsaid, network=other) is other
        assert torch.equal(other[0].weight, network[0].weight)
    with pytest.raises(ValueError, match=r"mismatch .*4.bias \(4,\), not \(5,\)"):
        kdx.load_student(path, network=plain(num_classes=5, in_channels=1))


def test_what_is_neither_a_path_nor_a_mapping_is_refused(distill):
    with pytest.raises(ValueError, match="recipe: a path or a mapping expected, not a list"):
        distill([1])


class Weighted(kdx.losses.CrossEntropy):
    """A loss with attributes that a recipe cannot hold as they are."""

    def __init__(self):
        super().__init__()
        self.use, self.last, self.of_samples = "other", float("nan"), [1.0] * 6000


def of_pixels(channels):
    """Return a student and 24 images of 8 x 8 pixels, of three classes."""
    data = [(torch.rand(channels, 8, 8), index % 3) for index in range(24)]
    student = nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 3))
    return {"student": student, "train": data, "test": data, "num_classes": 3, "epochs": 1}


def test_attributes_of_any_length_are_recorded(distill):
    given = of_pixels(1)
    run = distill(losses=[Weighted()], **given)
    recipe = (run.path / "recipe.yaml").read_text()
    assert "use: object:Weighted\n" in recipe
    assert "of_samples: sha256 " in recipe
    assert "of_samples" in (run.path / "report.html").read_text()
    assert distill(losses=[Weighted()], resume=True, **given).path == run.path


def test_images_of_other_than_one_or_three_channels(distill):
    run = distill(**of_pixels(4))
    assert run.summary.test_images == 24
    assert not (run.path / "pictures").exists()
