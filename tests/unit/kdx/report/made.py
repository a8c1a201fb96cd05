"""Run directories without training: the files that a page reads."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from kdx.models.certificate import Certificate, Errors
from tests.unit.kdx.report.test_summary import SUMMARY

__all__ = ["CLASSES", "EXPORT", "RECIPE", "SCRIPT", "cells", "figures", "made", "texts"]

SCRIPT = "<script>alert(1)</script>"
RECIPE = """\
name: digits/kd
seed: 3
data: {use: digits, batch_size: 16, augment: {crop: 2}}
teacher: {use: teachers.resnet18, weights: runs/digits/resnet18}
student: {use: smallnet, kernel_size: 3, transforms: [{use: expand.ExpandNet, conv: cl}]}
losses:
  - {use: cross_entropy, weight: 0.5, name: cross_entropy}
  - {use: kd, temperature: 4, weight: {from: 0.0, to: 1.0, epochs: 5.0}, name: kd}
optimizer: {use: SGD, lr: 0.01}
schedule: {use: cosine, warmup: 3}
epochs: 3
stages: []
"""
CLASSES = {
    "split": "test",
    "images": 10,
    "names": ["cat", SCRIPT, "dog"],
    "count": [5, 3, 2],
    "metrics": {"recall": {"heading": "recall", "values": [0.8, 1 / 3, None]}},
    "confusion": [[4, 1, 0], [2, 1, 0], [0, 0, 2]],
    "calibration": {
        "ece": 0.0625,
        "bins": [
            {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
            {"low": 0.5, "high": 1.0, "count": 10, "confidence": 0.8, "accuracy": 0.7},
        ],
    },
    "worst": [
        {"index": 4, "name": "a/4.png", "true": 0, "predicted": 1, "confidence": 0.975,
         "picture": "pictures/000004.png"},
    ],
}  # fmt: skip
EXPORT = {
    "format": "onnx", "file": "exports/student.onnx", "bytes": 64_000, "sha256": "0",
    "runtime": "onnxruntime 1.32.0", "images": 360, "max_abs_error": 0.25,
    "predictions_changed": 7, "metrics": {"compact": {"top1": 0.5}, "export": {"top1": 0.25}},
    "latency": [{"batch": 32, "threads": 1, "median_ms": 2.0, "p95_ms": 2.5,
                 "torch_median_ms": 3.0, "torch_p95_ms": 3.5}],
}  # fmt: skip


def made(path: Path, *, recipe: str = RECIPE, classes=CLASSES, exports=(EXPORT,), **more) -> Path:
    """Write the files of a finished run of three epochs; `more` changes its summary."""
    (path / "pictures").mkdir(parents=True)
    for index in (4, 12):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(path / f"pictures/{index:06d}.png")
    (path / "recipe.yaml").write_text(recipe)
    lines = [
        {"epoch": n, "stage": "a" if n < 3 else "b", "learning_rate": 0.01 / n, "loss/total": 4 / n,
         "loss/cross_entropy": 2 / n, "loss/kd": 2.0, "weighted/cross_entropy": 1 / n,
         "weighted/kd": 3 / n, "validation/top1": n / 4, "validation/top5": 1.0,
         "validation_average/top1": n / 5}
        for n in (1, 2, 3)
    ]  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (path / "summary.json").write_text(json.dumps(asdict(SUMMARY) | more))
    one, other = Errors(0.00123, 4.56e-7, 1e-4, 1024), Errors(1e-14, 2e-16, 1e-9, 256)
    certificate = Certificate(one, other, 3, 1024, {}).to_json() | {"exports": list(exports)}
    (path / "certificate.json").write_text(json.dumps(certificate))
    if classes:
        (path / "classes.json").write_text(json.dumps(classes))
    return path


def section(page: str, heading: str) -> str:
    """Return the HTML of a section; "" if it is missing."""
    return page.partition(f"<h2>{heading}</h2>")[2].partition("</section>")[0]


def cells(page: str, heading: str) -> list[list[str]]:
    """Return the rows of all tables of a section, as texts with their escapes."""
    rows = re.findall(r"<tr>(.*?)</tr>", section(page, heading), re.S)
    return [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)]
        for row in rows
    ]


def figures(page: str) -> dict[str, str]:
    """Return the HTML of each figure by its title."""
    found = re.findall(r"<figure.*?<figcaption>(.*?)</figcaption>(.*?)</figure>", page, re.S)
    return dict(found)


def texts(svg: str, kind: str) -> list[str]:
    """Return the texts of a drawing that have a class."""
    root = ElementTree.fromstring(svg[svg.index("<svg") : svg.index("</svg>") + 6])
    return [e.text or "" for e in root.iter() if kind in e.get("class", "").split()]
