"""kdx.evaluate and kdx.compress."""

import json
import re
from dataclasses import asdict

import pytest
import torch

import kdx
from kdx.commands.main import main
from kdx.models import weights
from kdx.report.summary import read_summary
from tests.unit.runs import contents, same


def test_a_run_is_evaluated_as_it_was(distilled):
    _, run_dir, _ = distilled
    metrics = kdx.Run.open(run_dir).metrics
    found = kdx.evaluate(run_dir)
    assert (found.split, found.images) == ("test", 64)
    assert {name: metrics[name] for name in found.metrics} == pytest.approx(found.metrics)
    fewer = kdx.evaluate(run_dir, run_dir / "recipe.yaml", split="train", data={"limit": 32})
    assert (fewer.split, fewer.images) == ("train", 32)


def test_its_classes_are_those_of_the_run(distilled, capsys):
    _, run_dir, _ = distilled
    written = json.loads((run_dir / "classes.json").read_text())
    found = json.loads(json.dumps(asdict(kdx.evaluate(run_dir, classes=True).classes)))
    pictures = [each.pop("picture") for each in written["worst"]]
    assert [each.pop("picture") for each in found["worst"]] == [None] * len(pictures)
    assert found == written
    assert written["images"] == sum(written["count"]) == sum(map(sum, written["confusion"])) == 64
    summary = read_summary(run_dir)
    right = sum(row[n] for n, row in enumerate(written["confusion"]))
    assert summary.test["top1"] == pytest.approx(right / 64)
    assert 64 - right >= len(pictures) == 24
    assert summary.ece == written["calibration"]["ece"]
    assert summary.by_class == {n: each["values"] for n, each in written["metrics"].items()}
    assert kdx.evaluate(run_dir).classes is None
    main(["evaluate", str(run_dir), "--classes"])
    table = capsys.readouterr().out.partition("\n\n")[2].strip()
    assert table.startswith("On 64 test images. Expected calibration error: ")
    assert table in (run_dir / "report.md").read_text()


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


def test_the_classes_of_the_student_are_those_of_the_data(distilled, teacher_run, tmp_path, capsys):
    """By name where the file says them, else by its predictions."""
    about = weights.read_metadata(teacher_run)
    spec, state = weights.read_spec(teacher_run), contents(teacher_run)
    path, beside = tmp_path / "student.safetensors", distilled[1] / "recipe.yaml"
    digits = [str(number) for number in range(10)]
    for names, said in (
        ([f"no. {n}" for n in digits], "^student: class names differ: .*"),
        (digits, None),
    ):
        weights.save(
            state, path, input=spec, classes=10, extra=about["extra"] | {"class_names": names}
        )
        notes = kdx.evaluate(path, beside).notes
        assert [bool(re.match(said or "", note)) for note in notes] == [True] * bool(said)
    names = [*digits[1:], "0"]
    weights.save(state, path, input=spec, classes=10, extra={"class_names": names})
    with pytest.raises(ValueError, match=r"^student: class order mismatch: .* on 1, 2, 3, 4, 5, 6"):
        kdx.evaluate(path, beside)
    unnamed = tmp_path / "student.pth"
    turned = {name: state[name].roll(1, 0) for name in ("fc2.weight", "fc2.bias")}
    torch.save(state | turned, unnamed)
    (note,) = kdx.evaluate(unnamed, beside, data={"limit": 360}).notes
    assert note.startswith(
        "student: by its predictions, its classes are in another order than the dat"
    )
    main(["evaluate", str(unnamed), "--recipe", str(beside), "data.limit=360"])
    assert "\nnote: student: by its predictions" in capsys.readouterr().out
