"""The figures: what is drawn, what stands beside it, what is refused."""

import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdx_lab.analysis import analyze
from kdx_lab.analysis.curves import analyze_curves, gap
from kdx_lab.analysis.runs import grouped
from tests.unit.kdx_lab.analysis.conftest import opened


def drawn(path):
    """Return the numbers beside a figure, once it is there as PNG and in TensorBoard."""
    assert len(Image.open(path).convert("L").getcolors()) > 20
    board = EventAccumulator(str(path.parent / "tensorboard"))
    assert path.stem in board.Reload().Tags()["images"]
    return json.loads(path.with_suffix(".json").read_text())


def test_curves_of_a_study_have_a_band_an_arm(study, console, tmp_path):
    numbers = drawn(analyze("curves", [study], console, output=tmp_path, plugins=["tests.toys"]))
    compact, init = numbers["groups"]
    assert [compact["label"], init["label"], init["stage_ends"]] == ["compact", "init", [1]]
    lines = [opened(study / "compact" / seed).metrics() for seed in ("seed_0", "seed_1")]
    means = [(a["test/top1"] + b["test/top1"]) / 2 for a, b in zip(*lines, strict=True)]
    assert compact["curves"]["test/top1"]["mean"] == pytest.approx(means)
    assert init["curves"]["loss/total"]["x"] == [1, 2, 3]
    assert console.file.getvalue() == f"figure   {tmp_path / 'curves.png'}\n"


def test_curves_have_the_gap_where_train_metrics_were_logged(compact, console, tmp_path):
    lines = [line | {"train/top1": line["test/top1"] + 0.125} for line in compact.metrics()]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = replace(compact, path=tmp_path)
    numbers = drawn(analyze_curves(grouped([run]), tmp_path / "analysis", console))
    assert numbers["groups"][0]["curves"]["gap"]["mean"] == pytest.approx([0.125, 0.125])
    assert gap({1: 1.0, 2: 0.75}, {2: 0.5}) == {2: 0.25}


def test_confusion_of_a_study_says_which_parameters(study, console):
    path = analyze("confusion", [study], console, pairs=3, every=2, plugins=["tests.toys"])
    assert path == study / "analysis" / "confusion.png"
    numbers = drawn(path)
    compact, init = numbers["groups"]
    assert numbers["pairs"] == 3
    assert compact["parameters"]["count"] == 14906  # a SmallNet's for grey images
    assert len(compact["similarities of runs"]) == 2
    assert init["minimum"]["x"] == [2, 3]
    assert init["minimum"]["mean"][1] == min(init["similarities of runs"][0])
    assert init["minimum"]["std"] == [0, 0]
    assert "conv1.factors.0.weight" in init["parameters"]["tensors"]
    assert "compact (n = 2)  at the last epoch " in console.file.getvalue()


def test_confusion_of_the_compact_network_leaves_the_nonlinear_phase_out(expanded, console):
    what = {"pairs": 2, "of": "folded", "plugins": ["tests.toys"]}
    numbers = drawn(analyze("confusion", [expanded.path], console, **what))
    assert numbers["groups"][0]["minimum"]["x"] == [2, 3]
    said = console.file.getvalue()
    assert "1 epoch left out: no compact equivalent in the nonlinear phase" in said
    assert f"figure   {expanded.path / 'analysis' / 'confusion_folded.png'}" in said


def test_a_run_that_kept_few_epochs_says_how_to_keep_more(teacher_run, console, tmp_path):
    run = shutil.copytree(teacher_run, tmp_path / "run")
    analyze("confusion", [run], console, pairs=1, plugins=["tests.toys"])
    assert "too few for a curve: train it with keep_checkpoints=4" in console.file.getvalue()


def test_landscapes_are_of_the_compact_networks_and_as_trained(study, console, tmp_path):
    runs = [study / "compact" / "seed_0", study / "init"]
    what = {"points": 3, "images": 32, "plugins": ["tests.toys"], "output": tmp_path}
    numbers = drawn(analyze("landscape", runs, console, **what))
    compact, init = numbers["groups"]
    assert numbers["at"] == [-1, 0, 1]
    assert compact["compact"] == compact["trained"]
    assert init["compact"]["loss"]["mean"][1] == pytest.approx(init["trained"]["loss"]["mean"][1])
    assert init["compact"]["half-widths"] == [None]  # it does not rise so far
    assert init["compact"]["loss"]["mean"][0] != init["trained"]["loss"]["mean"][0]
    last = analyze("landscape", runs, console, dims=2, **what)
    assert last.name == "landscape_2d_trained.png"
    for kind in ("compact", "trained"):
        plane = drawn(tmp_path / f"landscape_2d_{kind}.png")["runs"]["init, seed 0"]["loss"]
        line = [row[1] for row in plane]
        assert plane[1][1] == pytest.approx(init[kind]["loss"]["mean"][1])
        assert plane[1] == pytest.approx(init[kind]["loss"]["mean"]) != line


def test_runs_of_different_tasks_are_not_drawn_together(compact, console, tmp_path):
    other = replace(compact, summary=replace(compact.summary, headings={"map": "mAP"}))
    with pytest.raises(ValueError, match=r"the runs have different metrics \(top-1, mAP\): draw"):
        analyze_curves(grouped([compact, other]), tmp_path, console)


def test_metrics_without_the_curves_are_refused(compact, console, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "loss/total": 1.0}\n')
    run = replace(compact, path=tmp_path)
    with pytest.raises(ValueError, match=r"metrics.jsonl has no loss/total or no test/top1"):
        analyze_curves(grouped([run]), tmp_path, console)


@pytest.mark.parametrize("options", [{"pairs": 0}, {"every": 0}])
def test_of_nothing_there_is_no_confusion(study, console, options):
    with pytest.raises(ValueError, match=r"--pairs \d+, --every \d: both must be 1 or more"):
        analyze("confusion", [study], console, plugins=["tests.toys"], **options)


def test_a_run_of_the_nonlinear_phase_alone_has_nothing_compact(expanded, console, monkeypatch):
    monkeypatch.setattr("kdx_lab.analysis.confusion.measure", lambda *given: False)
    what = {"pairs": 9, "of": "folded", "plugins": ["tests.toys"]}
    with pytest.raises(ValueError, match=r"no epoch has a compact equivalent: use --of trained"):
        analyze("confusion", [expanded.path], console, **what)


def test_without_matplotlib_it_says_how_to_get_it(study, console, monkeypatch):
    monkeypatch.setattr("kdx_lab.analysis.figures.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"figures need matplotlib: pip install 'kdx\[plots\]'"):
        analyze("curves", [study], console)
