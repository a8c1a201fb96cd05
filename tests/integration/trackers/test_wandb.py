"""W&B, offline; its files are read back."""

import json
import struct
import time

import pytest
from PIL import Image

from kdx.recipe import Component, RecipeError
from kdx.training.trackers import TABLE
from kdx.training.tracking import Tracking
from tests.faults.resuming import differences
from tests.integration.trackers.conftest import needs, points_of
from tests.unit.conftest import silent


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Return W&B's section in a recipe; it writes below the test's folder."""
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WANDB_SILENT", "true")
    return f"{{use: wandb, project: digits, mode: offline, dir: {tmp_path}}}"


def records(path):
    """Yield the records in a file: LevelDB's log format behind a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    raw, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(raw):
        if -at % 2**15 < 7:  # a block's end
            at += -at % 2**15
        _, size, kind = struct.unpack_from("<IHB", raw, at)
        whole, at = whole + raw[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # whole, or a last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def ended(path):
    """Return the records of an offline run when W&B's own process has written the last one."""
    for _ in range(200):
        found = list(records(path))
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} does not end")


def of_wandb(path):
    """Return the id, the configuration, the steps and the files of an offline run."""
    ids, config, steps, files = set(), {}, [], set()
    for record in ended(path):
        ids |= {record.run.run_id} - {""}
        config |= {each.key: json.loads(each.value_json) for each in record.config.update}
        files |= {each.path for each in record.files.files}
        if items := record.history.item:
            values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
            steps.append((record.history.step.num, values))
    return *ids, config, steps, files


@needs("wandb")
def test_a_resumed_run_is_one_run_of_wandb(broken_run, offline, plain, tmp_path):
    run_dir = broken_run(offline)
    assert differences(plain, run_dir) == []
    parts = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime)
    (first, config, early, _), (again, _, late, files) = map(of_wandb, parts)
    assert json.loads((run_dir / "trackers.json").read_text()) == {
        "wandb": {"run": first, "epoch": 3}
    }
    assert first == again
    assert (config["data.use"], config["epochs"], config["clip"]) == ("digits", 3, None)
    assert [step for step, _ in early + late] == [1, 2, 3]
    for name, points in points_of(run_dir).items():
        assert [(s, values[name]) for s, values in early + late if name in values] == points
    assert "report.md" in files


@needs("wandb")
@needs("mlflow")
def test_an_mlflow_that_refuses_leaves_no_run_of_wandb(tmp_path, offline, store):
    """Also the MLflow run that a resume continues has to be there."""
    store.delete_experiment(store.create_experiment("gone"))
    parts = {
        "wandb": {"mode": "offline", "dir": str(tmp_path)}, "mlflow": {"project": "gone"}
    }  # fmt: skip
    given = [
        Component("tracker", use, each, TABLE[use], "a.yaml:3", f"trackers.{use}")
        for use, each in parts.items()
    ]
    with pytest.raises(RecipeError, match=r"'mlflow': the tracker .*: the experiment 'gone' was"):
        Tracking(tmp_path, given, silent(), name="a", config={})
    (tmp_path / "trackers.json").write_text('{"mlflow": {"run": "0123", "epoch": 1}}')
    parts["mlflow"]["project"] = "digits"
    with pytest.raises(RecipeError, match=r"'mlflow': the tracker does not start: .*0123"):
        Tracking(tmp_path, given, silent(), name="a", config={}, resumed=True)
    assert not (tmp_path / "wandb").exists()


@needs("wandb")
def test_wandb_gets_report_and_pictures(handed_over, offline, tmp_path):
    handed_over(offline)
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    _, config, [(step, values)], files = of_wandb(path)
    assert (step, values["loss/total"], config["seed"]) == (1, 2.0, 1)
    (name,) = values["pictures/filenames"]
    assert {name, "report.md"} <= files
    with Image.open(path.parent / "files" / name) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)
