"""Finished runs without training: the files that a study reads."""

import json
import re
from pathlib import Path

import torch
from rich.console import Console

from kdx.models.weights import FILE_IN_RUN, save
from kdx.protocols import InputSpec
from kdx.recipe import load
from kdx.report.summary import Summary, write_summary
from kdx.run.run import run
from kdx.util.errors import TrainingError
from kdx_lab.study.cell import Cell
from tests.unit.conftest import loaded
from tests.unit.kdx.report.test_summary import SUMMARY

__all__ = ["BASE", "COMMAND", "STUDY", "TEACHER", "Here", "cell", "finish", "finished", "summary"]

BASE = """\
data: {use: digits, limit: 64, batch_size: 32}
student: {use: tests.toys.plain}
optimizer: {use: SGD, lr: 0.05}
epochs: 1
threads: 1
"""
STUDY = """\
title: Two arms
recipe: base.yaml
seeds: [0, 1]
arms:
  compact:
  slow: {arm: compact, overrides: {optimizer.lr: 0.01}}
"""
COMMAND = "kdx study digits/two.yaml"
TEACHER = "overrides.teacher={use: tests.toys.plain, recipe: teacher.yaml, weights: runs/t}"


class Here:
    """An executor in this process: each poll runs a task; `ends` are reasons instead, by name."""

    threads = 1

    def __init__(self, ends=None):
        self.queue, self.ended, self.ends = [], {}, ends or {}
        self.seen, self.cancelled = [], []

    def submit(self, tasks):
        self.queue += tasks

    def poll(self):
        if self.queue:
            task = self.queue.pop(0)
            self.seen.append(task)
            self.ended[task.name] = self.run(task)
        return dict.fromkeys(self.ended, True)

    def run(self, task):
        if task.name in self.ends:
            return self.ends[task.name]
        file = Path(task.log).with_suffix(".yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(task.recipe)
        recipe = load(file, plugins=task.plugins, output_root=task.root)
        with open(task.log, "a", encoding="utf-8") as log:
            try:
                run(recipe, Console(file=log), resume=True)
            except TrainingError as error:
                return str(error)
        return ""

    def fetch(self, name):
        return self.ended.pop(name)

    def cancel(self, name=None):
        self.cancelled.append(name)
        self.queue = [task for task in self.queue if name not in (None, task.name)]


def cell(root, *overrides, setting: str = "", arm: str = "compact", seed: int = 0) -> Cell:
    """Return a cell whose run is not there yet."""
    place = re.sub(r"[^\w.-]+", "_", f"{setting} {arm}".strip())
    recipe = loaded(root, f"seed={seed}", f"name=study/{place}/{seed}", *overrides)
    return Cell(setting, arm, seed, recipe)


def summary(score: float, **more) -> Summary:
    """Return the summary of a run of three epochs on a validation split."""
    values = vars(SUMMARY) | {"test": {"top1": score, "top5": 0.9}, "teacher": None} | more
    return Summary(**values)


def finish(cell: Cell, run: Summary, curve=()) -> Cell:
    """Write what a finished run leaves that a study reads; `curve` by epoch."""
    cell.run_dir.mkdir(parents=True)
    spec = InputSpec(channels=1, size=8, mean=(0.5,), std=(0.5,))
    save({"weight": torch.zeros(1)}, cell.run_dir / FILE_IN_RUN, input=spec, classes=10)
    lines = [
        {"epoch": n, "stage": "train", "loss/total": 2 - value, f"{run.evaluated_on}/top1": value}
        for n, value in enumerate(curve, 1)
    ]
    (cell.run_dir / "metrics.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    write_summary(cell.run_dir, run)
    return cell


def finished(root, arm: str, seed: int, score: float, *overrides, setting="", curve=(), **more):
    """Return the cell of a finished run whose test top-1 is `score`."""
    planned = cell(root, *overrides, setting=setting, arm=arm, seed=seed)
    return finish(planned, summary(score, **more), curve)
