"""Fine-tuning a published timm network through an expansion: the shipped recipe, on real files."""

import io
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from kdx.recipe import load
from kdx.run.run import run
from kdx.training.job import build
from tests.unit.expand.networks import relative_error

RECIPE = Path(__file__).resolve().parents[2] / "configs/image_folder/mobilenetv3_finetune_cl.yaml"


@pytest.fixture
def images(tmp_path) -> Path:
    """Handwritten digits of three classes as image files, 24 to train on and 12 to test."""
    digits = load_digits()
    for split, share in (("train", slice(0, 8)), ("val", slice(8, 12))):
        for label in range(3):
            folder = tmp_path / "images" / split / str(label)
            folder.mkdir(parents=True)
            for number, pixels in enumerate(digits.images[digits.target == label][share]):
                image = Image.fromarray((pixels * 15).astype("uint8")).resize((32, 32))
                image.save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def published(tmp_path, monkeypatch) -> dict[str, torch.Tensor]:
    """Seeded weights of the recipe's network, which timm takes for the published ones."""
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv3_small_100")
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64))
    torch.save(network.state_dict(), tmp_path / "published.pth")
    file = {"file": str(tmp_path / "published.pth")}
    overlaid = partial(timm.create_model, pretrained_cfg_overlay=file)
    monkeypatch.setattr(timm, "create_model", overlaid)
    return network.state_dict()


def overrides(images: Path, *more: str) -> list[str]:
    return [f"data.root={images}", "data.size=64", "data.batch_size=12", "data.workers=0", *more]


def test_the_expansion_starts_from_the_published_function(images, published, tmp_path):
    recipe = load(RECIPE, overrides(images), output_root=tmp_path)
    job = build(recipe)
    counts = job.rehearsal.parameters
    assert counts["trained"] > counts["compact"]
    for name, value in job.compact.state_dict().items():
        if not name.startswith("classifier"):  # started afresh for three classes
            assert torch.equal(value, published[name]), name
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(job.student.eval()(x), job.compact.eval()(x)) < 1e-4
    lost = "student.transforms: the outputs differ from those of the weights"
    with pytest.raises(ValueError, match=lost):
        build(load(RECIPE, overrides(images, "student.transforms.0.init=default"),
                   output_root=tmp_path))  # fmt: skip


def test_the_recipe_runs_and_gives_the_plain_network(images, published, tmp_path):
    recipe = load(RECIPE, overrides(images, "epochs=1"), output_root=tmp_path / "runs")
    run_dir = run(recipe, Console(file=io.StringIO()))
    plain = timm.create_model("mobilenetv3_small_100", num_classes=3)
    plain.load_state_dict(load_file(run_dir / "student.safetensors"), strict=True)
    start = published["blocks.0.0.conv_dw.weight"]
    assert 0 < relative_error(plain.blocks[0][0].conv_dw.weight, start) < 0.5
