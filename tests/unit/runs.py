"""What the tests of whole runs share: overrides, and what is read from a run directory."""

import torch
from safetensors.torch import load_file

__all__ = ["EXPAND", "FILES", "SGD", "contents", "listed", "same"]

FILES = [
    "certificate.json", "checkpoints", "classes.json", "metrics.jsonl", "pictures",
    "recipe.yaml", "report.html", "report.md", "student.safetensors", "summary.json", "tensorboard",
]  # fmt: skip
SGD = "optimizer={use: SGD, lr: 0.1}"
EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]"


def listed(directory):
    return sorted(path.name for path in directory.iterdir())


def contents(directory):
    return load_file(directory / "student.safetensors")


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)
