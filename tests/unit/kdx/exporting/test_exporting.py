"""kdx.export: artefacts that are checked in the runtimes that they run in."""

import hashlib
import json
import shutil
from unittest import mock

import pytest
import timm
import torch
from huggingface_hub import HfApi
from torch import nn

import kdx
import kdx.exporting.export as export_module
from kdx.commands.main import main
from kdx.exporting import FORMATS
from kdx.exporting.formats import load
from kdx.models import weights
from kdx.util.copies import copied
from kdx.util.errors import CertificateError


@pytest.mark.parametrize("to", ["onnx", "torch-export", "openvino", "executorch"])
def test_an_artefact_answers_as_the_student_in_its_runtime(run_dir, to):
    package = {"torch-export": "torch"}.get(to, to)
    pytest.importorskip(package, reason=f"{package} is not installed")
    made = kdx.export(run_dir, to)
    row = json.loads((run_dir / "certificate.json").read_text())["exports"][-1]
    assert (row["format"], row["images"], row["input"]) == (to, 64, "float32")
    assert row["batches"] == [1, 7, 24, 32]
    assert row["file"] == f"exports/{made.path.name}"
    assert row["max_rel_error"] < 1e-5
    assert row["predictions_changed"] == 0
    assert row["metrics"]["export"] == pytest.approx(row["metrics"]["compact"], abs=1e-6)
    assert row["sha256"] == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert [(each["batch"], each["threads"]) for each in row["latency"]] == [(1, 1), (32, 1)]
    assert all(0 < each["median_ms"] <= each["p95_ms"] for each in row["latency"])
    assert kdx.Run.open(run_dir).certificate.problems == []
    call, student = load(FORMATS[to]).open(made.path), kdx.load_student(run_dir)
    for batch in (1, 7, 32):
        images = torch.randn(batch, *weights.read_spec(run_dir).shape)
        with torch.no_grad():
            assert call(images.numpy()) == pytest.approx(student(images).numpy(), abs=1e-4)


class _Wrong(nn.Module):
    """A network of which one weight is changed where it is traced."""

    def __init__(self, network):
        super().__init__()
        self.network = copied(network)
        next(reversed(list(self.network.parameters()))).data[0] += 0.5

    def forward(self, images):
        return self.network(images)


def test_a_changed_weight_is_refused_and_the_earlier_file_stays(run_dir, monkeypatch, capsys):
    path = kdx.export(run_dir, "torch-export").path
    before, rows = path.read_bytes(), (run_dir / "certificate.json").read_bytes()
    from kdx.exporting import torch_export

    write = torch_export.write

    def planted(network, *rest):
        write(_Wrong(network), *rest)

    monkeypatch.setattr(torch_export, "write", planted)
    with pytest.raises(CertificateError, match=r"pt2 differs .*: the largest error is .*0\.0001"):
        kdx.export(run_dir, "torch-export")
    assert main(["export", str(run_dir), "--to", "torch-export"]) == 1
    assert "differs from the compact student" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert (run_dir / "certificate.json").read_bytes() == rows
    assert not list(path.parent.glob(".*"))
    kdx.export(run_dir, "torch-export", tolerance=1e9)


def test_what_an_exporter_raises_is_told_after_a_fixed_size_was_tried(run_dir, monkeypatch, capsys):
    from kdx.exporting import torch_export

    tried = []

    def broken(network, images, path, options):
        tried.append(options.free_size)
        raise RuntimeError("No conversion rule for aten::fft_fft2\nFor details see\n")

    monkeypatch.setattr(torch_export, "write", broken)
    assert main(["export", str(run_dir), "--to", "torch-export"]) == 2
    said = capsys.readouterr().err
    expected = "student.pt2 cannot be written: RuntimeError: No conversion rule for aten::fft_fft2"
    assert said == f"error: {expected}\n"
    assert tried[-1] is False


def test_timm_opens_its_own_and_no_others(run_dir, tmp_path):
    with pytest.raises(ValueError, match=r"not an architecture of timm: SmallNet"):
        kdx.export(run_dir, "timm", tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    student = timm.create_model("test_resnet", num_classes=10, in_chans=1).eval()
    path, spec = tmp_path / "student.safetensors", weights.read_spec(run_dir)
    weights.save(student, path, input=spec, classes=10)
    overrides = ["student={use: timm, name: test_resnet}", "stages=[{epochs: 1}]"]
    overrides += ["losses=[{use: cross_entropy}]"]
    if spec.channels != 1:
        student = timm.create_model("test_resnet", num_classes=10, in_chans=spec.channels).eval()
        weights.save(student, path, input=spec, classes=10)
    options = {"recipe": run_dir / "recipe.yaml", "overrides": overrides, "images": 8}

    def uploaded(api, *, repo_id, folder_path, **rest):
        return shutil.copytree(folder_path, tmp_path / repo_id)

    with (
        mock.patch.object(HfApi, "create_repo", autospec=True) as create,
        mock.patch.object(HfApi, "upload_folder", autospec=True, side_effect=uploaded) as upload,
    ):
        made = kdx.export(path, "timm", license="mit", **options)
        assert not create.called
        assert not upload.called
        create.return_value.repo_id = "me/net"
        pushed = kdx.export(path, "timm", push_to_hub="net", license="mit", **options)
        assert create.call_args.args[1:] == ("net",)
        assert pushed.notes[-1] == f"pushed to {tmp_path / 'me/net'}"
        upload.side_effect = ConnectionError("no route")
        with pytest.raises(ValueError, match=r"push_to_hub: net: .*no route.* is written; log in"):
            kdx.export(path, "timm", push_to_hub="net", **options)
    hub = timm.create_model(f"local-dir:{tmp_path / 'me/net'}", pretrained=True).eval()
    assert {each.name for each in made.path.parent.iterdir()} >= {"config.json", "README.md"}
    again = timm.create_model(f"local-dir:{made.path.parent}", pretrained=True).eval()
    images = torch.randn(2, *spec.shape)
    with torch.no_grad():
        assert torch.equal(again(images), student(images))
        assert torch.equal(hub(images), student(images))
    config = json.loads((made.path.parent / "config.json").read_text())
    assert config["architecture"] == "test_resnet"
    assert config["pretrained_cfg"]["mean"] == pytest.approx(spec.mean)
    assert not config["pretrained_cfg"].get("tag")  # of the published weights
    modes = {each.name: each.stat().st_mode & 0o777 for each in made.path.parent.iterdir()}
    assert modes["model.safetensors"] == modes["README.md"]
    assert "license: mit" in (tmp_path / "me/net" / "README.md").read_text()
    rows = json.loads((made.path.parent / "certificate.json").read_text())["exports"]
    assert rows[0]["max_abs_error"] == 0


def test_a_checkpoint_is_exported_beside_the_run(run_dir):
    checkpoint = max((run_dir / "checkpoints").glob("epoch_*"))
    made = kdx.export(checkpoint, "torch-export", batch=2, images=8)
    assert made.path == (run_dir / "exports" / f"{checkpoint.name}.pt2").resolve()
    assert [each["batch"] for each in made.row["latency"]] == [2]
    rows = json.loads((run_dir / "exports" / "certificate.json").read_text())["exports"]
    assert rows[0]["file"] == made.path.name


def test_pixels_in_and_a_folder_by_command_line(run_dir, tmp_path, capsys):
    arguments = [str(run_dir), "--to", "torch-export", "--preprocess", "-o", str(tmp_path)]
    assert main(["export", *arguments, "--images", "8"]) == 0
    assert "images uint8 [batch, " in capsys.readouterr().out
    spec = weights.read_spec(run_dir)
    pixels = torch.randint(256, (7, *spec.shape), dtype=torch.uint8)
    mean, std = (torch.tensor(each)[:, None, None] for each in (spec.mean, spec.std))
    with torch.no_grad():
        expected = kdx.load_student(run_dir)((pixels / 255 - mean) / std).numpy()
    call = load(FORMATS["torch-export"]).open(tmp_path / "student.pt2")
    assert call(pixels.numpy()) == pytest.approx(expected, abs=1e-5)


def test_an_unfinished_run_has_checkpoints(run_dir, tmp_path):
    shutil.copytree(run_dir / "checkpoints", tmp_path / "checkpoints")
    newest = max((tmp_path / "checkpoints").glob("epoch_*"))
    with pytest.raises(FileNotFoundError, match=rf"not a finished run; or pass a .*{newest.name}"):
        kdx.export(tmp_path, "torch-export")


def test_what_is_unknown_or_missing_is_refused(run_dir):
    with pytest.raises(ValueError, match=r"unknown format 'tensorrt'. Known: onnx"):
        kdx.export(run_dir, "tensorrt")
    with pytest.raises(ValueError, match=r"push_to_hub: .* is for the format timm alone"):
        kdx.export(run_dir, "onnx", push_to_hub="a/b")
    with pytest.raises(ValueError, match=r"license: 'mit' is for the format timm alone"):
        kdx.export(run_dir, "onnx", license="mit")
    with pytest.raises(ValueError, match=r"x\.bin' must be an existing folder or end in \.pt2"):
        kdx.export(run_dir, "torch-export", run_dir / "x.bin")
    with pytest.raises(ValueError, match=r"litert: litert_torch is not installed: pip install"):
        kdx.export(run_dir, "litert")


def test_nothing_is_replaced_that_is_no_export_of_the_student(run_dir, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    notes = tmp_path / "notes.pt2"
    notes.write_text("mine")
    with pytest.raises(ValueError, match=r"output: .*notes\.pt2 exists: remove it, or choose"):
        kdx.export(copy, "torch-export", notes, images=8)
    assert notes.read_text() == "mine"
    made = kdx.export(copy, "torch-export", tmp_path / "mine.pt2", images=8)
    kdx.export(copy, "torch-export", made.path, images=8)  # its own, again
    (copy / "certificate.json").write_text("{")
    before = made.path.read_bytes()
    with pytest.raises(CertificateError, match=r"certificate\.json: cannot be read"):
        kdx.export(copy, "torch-export", made.path, recipe=run_dir / "recipe.yaml", images=8)
    assert made.path.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tolerance", "nan"], "'nan' is not a number of 0 or more"),
        (["--max-loss", "-1"], "'-1' is not a number of 0 or more"),
        (["--batch", "foo"], "'foo' is not an integer of 1 or more, and not 'dynamic'"),
    ],
)
def test_arguments_without_meaning_are_refused(words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["export", "run", "--to", "onnx", *words])
    assert said in capsys.readouterr().err


def test_rows_of_exports_that_end_meanwhile_are_kept(run_dir, tmp_path, monkeypatch):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    certificate, real = copy / "certificate.json", export_module.check
    kdx.export(copy, "torch-export", images=8)

    def slow(*arguments, **named):
        found = json.loads(certificate.read_text())
        found["exports"].append(found["exports"][-1] | {"file": "exports/other.pt2"})
        certificate.write_text(json.dumps(found))
        return real(*arguments, **named)

    monkeypatch.setattr(export_module, "check", slow)
    made = kdx.export(copy, "torch-export", images=8)
    rows = json.loads(certificate.read_text())["exports"]
    files = [row["file"] for row in rows]
    assert files[-2:] == ["exports/other.pt2", "exports/student.pt2"]
    assert files.count("exports/student.pt2") == 1
    assert rows[-1]["sha256"] == hashlib.sha256(made.path.read_bytes()).hexdigest()
    lost = mock.Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr("kdx.exporting.keeping.move", lost)
    with pytest.raises(OSError, match="No space"):
        kdx.export(copy, "torch-export", images=8)
    rows = json.loads(certificate.read_text())["exports"]  # says nothing of a file half there
    assert "exports/student.pt2" not in [row["file"] for row in rows]
