"""A checkpoint from elsewhere: what is damaged is passed over, what is hostile does not run."""

import json
import os
import pickle
from hashlib import sha256
from pathlib import Path

import pytest
from rich.console import Console

from kdx.report.summary import read_summary
from kdx.run.run import run
from kdx.util.errors import Stopped
from tests.faults.resuming import differences, stop_after

FILES = ("state.json", "run.json", "metrics.jsonl", "student.safetensors", "training.safetensors")


class Payload:
    """Runs when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


@pytest.fixture
def stopped(recipe, monkeypatch):
    """Return a recipe whose run was stopped in its third epoch, with three checkpoints."""
    stopped = recipe("epochs=3", "keep_checkpoints=3")
    with stop_after(10, monkeypatch), pytest.raises(Stopped, match="saved in"):
        run(stopped, Console(quiet=True))
    return stopped


def names(recipe):
    return sorted(path.name for path in (recipe.run_dir / "checkpoints").iterdir())


def sign(place: Path) -> None:
    """Bring the manifest up to date, as somebody who plants a file would."""
    manifest = json.loads((place / "manifest.json").read_text())
    for name in manifest["files"]:
        content = (place / name).read_bytes()
        manifest["files"][name] = {
            "bytes": len(content), "sha256": sha256(content).hexdigest()}  # fmt: skip
    (place / "manifest.json").write_text(json.dumps(manifest))


def test_damaged_checkpoints_are_named_and_the_run_goes_on_from_an_older_one(
    stopped, recipe, console
):
    unbroken = run(recipe("epochs=3", "keep_checkpoints=3", name="unbroken"), Console(quiet=True))
    assert names(stopped) == ["epoch_0001", "epoch_0002", "epoch_0002_step_000002"]
    directory = stopped.run_dir / "checkpoints"
    content = (directory / "epoch_0002_step_000002/student.safetensors").read_bytes()
    flipped = bytes([*content[:500], content[500] ^ 1, *content[501:]])
    (directory / "epoch_0002_step_000002/student.safetensors").write_bytes(flipped)
    (directory / "epoch_0002/training.safetensors").unlink()
    run(stopped, console, resume=True)
    said = console.file.getvalue()
    assert f"{directory}/epoch_0002_step_000002: student.safetensors was changed: its SHA" in said
    assert f"{directory}/epoch_0002: training.safetensors cannot be read (No such file" in said
    assert "note     resumed from epoch_0001\n" in said
    assert differences(unbroken, stopped.run_dir) == []


def test_where_no_checkpoint_verifies_nothing_is_overwritten(stopped, console):
    directory = stopped.run_dir / "checkpoints"
    for place in directory.iterdir():
        (place / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"no intact checkpoint:\n  .*: manifest"):
        run(stopped, console, resume=True)
    assert len(names(stopped)) == 3


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_planted_payload_does_not_run(stopped, console, tmp_path, name, signed):
    witness = tmp_path / "witness"
    for place in (stopped.run_dir / "checkpoints").iterdir():
        (place / name).write_bytes(pickle.dumps(Payload(witness)))
        if signed and name != "manifest.json":
            sign(place)
    refused = r"not a valid kdx check" if signed else rf"{name} (has \d|is damaged|was changed)"
    if name == "manifest.json":
        refused = r"manifest\.json is damaged"
    with pytest.raises(ValueError, match=refused):
        run(stopped, console, resume=True)
    assert not witness.exists()


EMPTY = {"optimizer": {"state": {}, "groups": []}, "scaler": None, "ranks": [{}]}


@pytest.mark.parametrize("change", [
    {"training": {}}, {"training": {"$tensor": "no"}}, {"progress": {"stage": 0, "surprise": 1}},
    {"training": EMPTY}, {"training": EMPTY | {"optimizer": {"state": 5, "groups": [{}]}}},
])  # fmt: skip
def test_a_state_that_is_none_is_refused(stopped, console, change):
    for place in (stopped.run_dir / "checkpoints").iterdir():
        state = json.loads((place / "state.json").read_text())
        (place / "state.json").write_text(json.dumps(state | change))
        sign(place)
    with pytest.raises(ValueError, match=r"epoch_0002_step_000002(: not a valid| does not fit)"):
        run(stopped, console, resume=True)


def test_what_lies_beside_the_listed_files_is_never_opened(stopped, console, tmp_path):
    witness = tmp_path / "witness"
    for place in (stopped.run_dir / "checkpoints").iterdir():
        (place / "custom_checkpoint_0.pkl").write_bytes(pickle.dumps(Payload(witness)))
    run(stopped, console, resume=True)
    assert not witness.exists()


def test_a_damaged_best_checkpoint_is_not_exported(recipe, console):
    best = recipe("epochs=3", "data.validation=32", "select=best", "keep_checkpoints=3",
                  "optimizer={use: AdamW, lr: 0.01}")  # fmt: skip
    run(best, Console(quiet=True))
    (best.run_dir / "summary.json").unlink()  # as if killed before it was finished
    for place in (best.run_dir / "checkpoints").iterdir():
        state = json.loads((place / "state.json").read_text())
        state["progress"]["best_checkpoint"] = "epoch_0001"
        (place / "state.json").write_text(json.dumps(state))
        sign(place)
    student = best.run_dir / "checkpoints/epoch_0001/student.safetensors"
    content = bytearray(student.read_bytes())
    content[-1] ^= 1
    student.write_bytes(content)
    run(best, console, resume=True)
    said = console.file.getvalue()
    assert "note     the best epoch's checkpoint is lost, another is chosen: " in said
    assert read_summary(best.run_dir).exported_epoch == 3


def test_a_damaged_export_is_written_again(recipe, console):
    finished = run(recipe("epochs=1"), Console(quiet=True))
    student = finished / "student.safetensors"
    content = student.read_bytes()
    student.write_bytes(content[:100])
    run(recipe("epochs=1"), console, resume=True)
    assert student.read_bytes() == content


def test_a_run_that_bears_the_name_of_another_that_was_replaced(recipe):
    with pytest.raises(ValueError, match=r"ends with '\.replaced', which marks replaced runs"):
        recipe("name=digits/plain.replaced")
    run(recipe("epochs=1"), Console(quiet=True))
    place = recipe().run_dir
    beside = place.with_name("plain.replaced")
    beside.mkdir()
    with pytest.raises(FileExistsError, match=r"plain\.replaced is in the way of the run to re"):
        run(recipe("epochs=1"), Console(quiet=True), overwrite=True)
    assert (place / "student.safetensors").exists()
