"""Student transforms in runs: with a teacher, averages, accumulation, product decay, resumed."""

import json
from pathlib import Path

import pytest

import kdx
from kdx.recipe import load
from kdx.training.job import build
from tests.faults.resuming import differences, run_stopped_at

KD = Path(__file__).resolve().parents[2] / "configs/methods/kd.yaml"
TINY = {
    "epochs": 1,
    "threads": 1,
    "data.limit": {"train": 32, "test": 16},
    "data.batch_size": 16,
    "teacher": {"use": "smallnet", "allow_chance": True},
}
EMA = {"average": {"use": "ema", "decay": 0.9}}
DECAY = {"optimizer": {"use": "SGD", "lr": 0.01, "weight_decay": 0.1, "decay": "product"}}


def layer_by_layer(*names: str, **options) -> dict:
    """One transform for each convolution of a SmallNet."""
    places = zip(names, ("conv1", "conv2", "conv3"), strict=False)  # one to three names
    return {
        "student.transforms": [
            {"use": f"expand.{name}", "select": place} | options.get(name, {})
            for name, place in places
        ]
    }


CHAIN = {"conv": "cl", "identity": True}
MIXED = {
    "linear": DECAY
    | {"accumulate": 2}
    | layer_by_layer("OREPA", "DOConv", "ExpandNet", ExpandNet=CHAIN),
    "branches": EMA | {"precision": "bf16"} | layer_by_layer("RepVGG", "ACNet", "MobileOne"),
    "both": EMA | layer_by_layer("DBB", "OREPA", OREPA={"init": "scaled"}),
}
ALONE = {
    name: {"student.transforms": [{"use": f"expand.{name}"}]}
    for name in ("OREPA", "DOConv", "RepVGG", "ACNet", "DBB", "MobileOne")
}
HOW = {"EMA": EMA, "accumulated": {"accumulate": 2}}
COMPOSED = MIXED | {f"{n} {how}": ALONE[n] | more for n in ALONE for how, more in HOW.items()}
SHORT = ["linear", "branches"]
LONG = [pytest.param(name, marks=pytest.mark.long) for name in COMPOSED if name not in SHORT]


@pytest.mark.parametrize("name", [*SHORT, *LONG])
def test_it_trains_with_a_teacher_and_exports_the_compact_student(name, tmp_path):
    run = kdx.distill(KD, **TINY, **COMPOSED[name], output_root=tmp_path, quiet=True)
    certificate = json.loads((run.path / "certificate.json").read_text())
    assert certificate["holds"]
    assert certificate["parameters"]["trained"] > certificate["parameters"]["compact"]
    assert sum(p.numel() for p in run.student.parameters()) == certificate["parameters"]["compact"]


@pytest.mark.parametrize("name", ["both", *LONG[1:]])
def test_a_resumed_run_is_the_same_to_the_byte(name, tmp_path, monkeypatch):
    given = [f"{key}={json.dumps(value)}" for key, value in (TINY | COMPOSED[name]).items()]
    whole, parts = (load(KD, given, output_root=tmp_path / place) for place in ("a", "b"))
    assert differences(
        run_stopped_at(whole, [], monkeypatch), run_stopped_at(parts, [1], monkeypatch)
    ) == []  # fmt: skip


def test_a_transform_inside_of_another_is_refused_with_the_reason(tmp_path):
    transforms = [{"use": "expand.ExpandNet", "conv": "cl"}, {"use": "expand.OREPA"}]
    given = [f"student.transforms={json.dumps(transforms)}", "data.limit=32", "teacher=null"]
    given += ["losses=[{use: cross_entropy}]"]
    with pytest.raises(ValueError, match=r"(?s)transforms\[1\].*conv1 .*already expanded"):
        build(load(KD, given, output_root=tmp_path))
