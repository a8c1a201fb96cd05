"""The benchmarks run from end to end, on next to nothing."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import (
    expand_cost,
    gpu,
    int8,
    losses,
    operations,
    peers,
    pipeline,
    processes,
    scaling,
    startup,
    teacher,
)
from benchmarks.peer_loops import Spec
from benchmarks.peer_process import Peer
from kdx.exporting.export import export

DIGITS = Path(__file__).parents[3] / "configs/digits/resnet18_to_smallnet3_cl_fc_kd.yaml"
TINY = ["--rounds", "1", "--threads", "1", "--batch-size", "4"]


def rows(main, path, *arguments):
    main([*TINY, *map(str, arguments), "--json", str(path)])
    return json.loads(path.read_text())["rows"]


def test_expand_cost(tmp_path, capsys):
    (row,) = rows(expand_cost.main, tmp_path / "a.json", "--only", "SmallNet-3 CL")
    assert "SmallNet-3 CL" in capsys.readouterr().out
    assert row["images"] == "4 x 32²"
    assert row["folded"]["median"] > 0
    assert row["unfolded MB"] > 1.5


def test_expand_cost_without_what_is_slow(tmp_path, capsys, monkeypatch):
    built = []
    step = expand_cost._step
    monkeypatch.setattr(
        expand_cost, "_step", lambda case, who, *rest: built.append(who) or step(case, who, *rest)
    )
    what = ("--only", "SmallNet-3 CL", "--no-unfolded")
    (row,) = rows(expand_cost.main, tmp_path / "a.json", *what)
    assert "unfolded" not in built
    assert (row["unfolded"], row["unfolded MB"]) == (None, None)
    assert row["folded"]["median"] > 0
    assert row["folded MB"] > 1
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith(" SmallNet-3 CL"))
    assert line.split().count("-") == 3  # the paper has no such row either


def test_expand_cost_of_other_transforms(tmp_path):
    what = ("--only", "SmallNet-3 CL", "--transforms", "OREPA", "DBB")
    (row,) = rows(expand_cost.main, tmp_path / "a.json", *what)
    assert 1 < row["OREPA MB"] < row["DBB MB"]
    assert row["OREPA"]["median"] > 0


def test_pipeline(tmp_path):
    found = rows(pipeline.main, tmp_path / "a.json", "--recipe", DIGITS, "--limit", 8)
    speeds = {row[""]: row["img/s"] for row in found}
    assert speeds["+ KD, live teacher"]["median"] < speeds["bare loop"]["median"]
    assert speeds["only teacher"] is None
    assert {row["this row"] for row in found} - {None} < set(speeds)


def test_operations_are_counted_without_views(tmp_path):
    weight = torch.ones(2, 3, requires_grad=True)
    assert operations.count(lambda: (weight.T @ weight[0, :2]).sum().backward()) == {
        "mv": 2, "sum": 1, "mul": 1, "ones_like": 1, "slice_backward": 1, "select_backward": 1,
        "add": 1,
    }  # fmt: skip
    path = tmp_path / "a.json"
    operations.main(["--only", "SmallNet-3 CL", "--json", str(path)])
    (row,) = json.loads(path.read_text())["rows"]
    assert "18 mm" in row["more"]  # of three chains of three: two products, four of their gradients
    assert float(row["ratio"]) < 1.8


@pytest.mark.long
def test_the_tables_of_a_gpu_are_measured_on_the_cpu(tmp_path):
    gpu.main(["--json", str(tmp_path / "a.json")])
    found = json.loads((tmp_path / "a.json").read_text())
    assert list(found) == list(gpu.TABLES)
    assert all(table["rows"] for table in found.values())


def test_teacher(tmp_path):
    what = ("--only", "resnet18", "--pixels", 32)
    (row,) = rows(teacher.main, tmp_path / "a.json", *what)
    assert row["teacher"] == "resnet18"
    assert row["bf16 / float32"]["median"] > 0
    assert 0 < float(row["error"]) < 0.1


def test_losses(tmp_path, capsys):
    what = ("--only", "rkd", "--pixels", 8)
    base, row = rows(losses.main, tmp_path / "a.json", *what)
    assert (base["loss"], base["time to kd"]["median"], base["memory to kd"]) == ("kd", 1, 1)
    assert (row["loss"], row["largest"]) == ("rkd", "B² max(B, D)")
    assert row["time to kd"]["median"] > 0
    assert base["peak MB"] > 4 * (3 * 1.2 + 7.4)  # the student, its gradient and momentum; teacher
    assert "Losses, 4 x 8², 1 rounds, 1 threads" in capsys.readouterr().out


def test_peers(tmp_path):
    what = ("--recipe", DIGITS, "--limit", 8, "--search-limit", 0, "--only", "plain loop, live*")
    (row,) = rows(peers.main, tmp_path / "a.json", *what)
    assert row["settings"] == "workers 0, threads 1, transforms tensor"
    assert row["img/s"]["median"] > 0


def test_a_peer_that_fails_says_so(tmp_path):
    peer = Peer("plain", Spec(DIGITS, tmp_path, ()), python="false", threads=None)
    with pytest.raises(RuntimeError, match="a contender failed"), peer:
        pass


def test_startup(tmp_path, capsys):
    path = tmp_path / "a.json"
    startup.main(["--rounds", "2", "--only", "*--help", "--json", str(path)])
    assert "Start-up, 2 rounds" in capsys.readouterr().out
    (row,) = json.loads(path.read_text())["rows"]
    seconds, cpu = startup._start(tmp_path, 1, "first step")
    assert 0 < row["seconds"]["median"] < seconds
    assert 0 < row["CPU seconds"]["median"] < cpu
    assert row["of import torch"] is None


def test_a_start_that_fails_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(startup.COMMANDS, "a", ("-c", "raise SystemExit('no such step')"))
    with pytest.raises(RuntimeError, match="a: exit code 1:\nno such step"):
        startup.main(["--rounds", "1", "--only", "a"])


def test_scaling(tmp_path):
    (row,) = rows(scaling.main, tmp_path / "a.json", "--only", "rate 2")
    assert row["img/s"]["median"] > 0
    assert row["folded MB"] > 1


def test_one_of_several_processes(tmp_path):
    measure = partial(scaling._measure, scaling.Size(batch=4), 2, repeats=1)
    processes._process(0, measure, 1, 1, str(tmp_path))
    assert {len(v) for v in torch.load(tmp_path / "speeds").values()} == {2}
    assert not torch.distributed.is_initialized()


@pytest.mark.filterwarnings("ignore")  # of torch's exporter and of onnxruntime's calibration
def test_students_of_a_study_in_int8(distilled, tmp_path, capsys):
    shutil.copytree(distilled[1], tmp_path / "ck-fc" / "seed_0")
    row = {"setting": "", "arm": "ck+fc", "planned": [0, 1], "runs": {"0": {}}}
    rows = [row, row | {"arm": "later", "runs": {}}]
    results = {"title": "a", "baseline": "b", "planned": 2, "finished": 1, "rows": rows}
    (tmp_path / "results.json").write_text(json.dumps(results))
    int8.main([str(tmp_path)])
    found = json.loads((tmp_path / "analysis" / "int8.json").read_text())
    (group,) = found["groups"]
    assert (group["label"], group["runs"]) == ("ck+fc", [str(tmp_path / "ck-fc" / "seed_0")])
    tested = json.loads((distilled[1] / "summary.json").read_text())["test"]["top1"]
    assert group["float"] == [pytest.approx(tested)]
    certificate = json.loads((Path(group["runs"][0]) / "certificate.json").read_text())
    (row,) = certificate["exports"]
    assert group["int8"] == [row["metrics"]["export"]["top1"]]
    assert group["changed"] == [row["predictions_changed"]]
    assert found["compared"] == f"{row['images']} test images in {row['runtime']}"
    assert "| ck+fc " in capsys.readouterr().out
    artefact = tmp_path / "ck-fc" / "seed_0" / int8.ARTEFACT
    written = artefact.stat().st_mtime_ns
    int8.main([str(tmp_path), "--only", "/ck*"])
    assert artefact.stat().st_mtime_ns == written
    for arguments, said in (
        ([tmp_path, "--only", "/later", "7x7/*"], "no finished run of SETTING/ARM like /later or"),
        ([tmp_path / "ck-fc"], "no results.json in it"),
    ):
        with pytest.raises(SystemExit):
            int8.main([*map(str, arguments)])
        assert said in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # of torch's exporter and of onnxruntime's calibration
def test_students_that_were_exported_on_other_images_are_not_mixed(distilled, tmp_path, capsys):
    for seed, images in enumerate((64, 32)):
        run = tmp_path / "ck" / f"seed_{seed}"
        shutil.copytree(distilled[1], run)
        export(run, "onnx", int8=True, images=images, max_loss=100)
    row = {"setting": "", "arm": "ck", "planned": [0, 1], "runs": {"0": {}, "1": {}}}
    results = {"title": "a", "baseline": "ck", "planned": 2, "finished": 2, "rows": [row]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(SystemExit):
        int8.main([str(tmp_path)])
    assert "exported on 32 test images in onnxruntime" in capsys.readouterr().err
    assert not (tmp_path / "analysis").exists()
