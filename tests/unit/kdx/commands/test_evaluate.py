"""kdx.evaluate and kdx.compress."""

import pytest
import torch

import kdx
from tests.unit.runs import contents, same


def test_a_run_is_evaluated_as_it_was(distilled):
    _, run_dir, _ = distilled
    metrics = kdx.Run.open(run_dir).metrics
    found = kdx.evaluate(run_dir)
    assert (found.split, found.images) == ("test", 64)
    assert {name: metrics[name] for name in found.metrics} == pytest.approx(found.metrics)
    fewer = kdx.evaluate(run_dir, run_dir / "recipe.yaml", split="train", data={"limit": 32})
    assert (fewer.split, fewer.images) == ("train", 32)


def test_a_checkpoint_is_compressed(distilled, tmp_path):
    _, run_dir, _ = distilled
    checkpoint = max((run_dir / "checkpoints").glob("epoch_*"))
    output = tmp_path / "student.safetensors"
    certificate = kdx.compress(checkpoint, output)
    assert certificate.problems == []
    compact = kdx.load_student(output).state_dict()
    exported = contents(run_dir)
    assert same(dict(sorted(compact.items())), dict(sorted(exported.items())))
    assert all(torch.isfinite(value).all() for value in compact.values())
    with pytest.raises(FileExistsError, match=r"another file \(-o\), or pass .*overwrite=True"):
        kdx.compress(checkpoint, output)
    kdx.compress(checkpoint, output, overwrite=True)


def test_another_split_is_refused(distilled):
    with pytest.raises(ValueError, match=r"split: 'val' is not train, validation or test"):
        kdx.evaluate(distilled[1], split="val")
