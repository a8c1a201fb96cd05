"""Finished runs, grouped if they differ only in the seed."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from kdx.recipe import Recipe, load
from kdx.report.files import read_epochs
from kdx.report.summary import FILE as SUMMARY
from kdx.report.summary import Summary, read_summary
from kdx.run.directory import is_finished
from kdx.training.log import METRICS
from kdx.util.words import naturally
from kdx_lab.tuning.folder import is_aside

__all__ = ["Group", "Run", "find_runs", "grouped", "output_of"]

FOLDER = "analysis"
SAME = {"seed", "name", "threads", "processes"}
"""Keys in which the recipes of a group may differ."""

_SEED = re.compile(r"seed_\d+")


@dataclass(frozen=True)
class Run:
    """A finished run: its directory, its resolved recipe, and its results."""

    path: Path
    recipe: Recipe
    summary: Summary

    @property
    def analysis(self) -> Path:
        """The directory of the analyses of this run."""
        return self.path / FOLDER

    @property
    def stage_ends(self) -> list[int]:
        """The epochs after which another stage began, counted from 1."""
        return list(accumulate(stage.epochs for stage in self.recipe.resolved_stages()))[:-1]

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl, one per epoch; ValueError if they cannot be read."""
        path = self.path / METRICS
        if not (epochs := read_epochs(path)):
            raise ValueError(f"{path}: missing or empty: it has the metrics of each epoch")
        return epochs


@dataclass(frozen=True)
class Group:
    """Repetitions of a run: their recipes differ only in `SAME`."""

    label: str
    runs: tuple[Run, ...]

    @property
    def heading(self) -> str:
        """The label, and the number of runs."""
        return f"{self.label} (n = {len(self.runs)})"

    @property
    def about(self) -> dict[str, Any]:
        """The group as JSON, for the numbers of a figure."""
        return {"label": self.label, "runs": [str(run.path) for run in self.runs]}


def find_runs(
    places: Sequence[Path], *, plugins: Iterable[str] = (), output_root: str = "runs"
) -> list[Run]:
    """Return the finished runs at `places`: run directories, or directories that contain some.

    `plugins` and `output_root` as in `kdx.recipe.load`. Raises ValueError for a place without a
    finished run, RecipeError for recipes that cannot be read.
    """
    plugins = tuple(plugins)
    found: dict[Path, Path] = {}  # a run that is given twice counts once
    for path in (path for place in places for path in _finished(place)):
        found.setdefault(path.resolve(), path)
    return [
        Run(path, load(path / "recipe.yaml", plugins=plugins, output_root=output_root),
            read_summary(path))
        for path in found.values()
    ]  # fmt: skip


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Return the runs in groups, in the order given; within a group by seed."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        plain = {k: v for k, v in run.recipe.plain().items() if k not in SAME}
        groups.setdefault(json.dumps(plain, default=str), []).append(run)
    for group in groups.values():
        group.sort(key=lambda run: run.recipe.seed)
    labels = _labels([group[0].recipe.name for group in groups.values()])
    return [
        Group(label, tuple(group)) for label, group in zip(labels, groups.values(), strict=True)
    ]


def output_of(runs: Sequence[Run]) -> Path:
    """Return where figures go: in the run, or in the innermost directory that contains all."""
    if len(runs) == 1:
        return runs[0].analysis
    return Path(os.path.commonpath([run.path.resolve() for run in runs])) / FOLDER


def _finished(place: Path) -> Iterator[Path]:
    """Yield the finished runs at or below a place; ValueError if there are none."""
    if not place.is_dir():
        raise ValueError(f"{place}: no such directory: give one that is or contains a run")
    found = [
        path
        for path in sorted((path.parent for path in place.rglob(SUMMARY)), key=naturally)
        if is_finished(path) and not is_aside(path.relative_to(place))
    ]
    if not found:
        raise ValueError(
            f"{place}: no finished run (with summary.json and student.safetensors): finish it with "
            "`kdx distill`, or with --resume if it was interrupted"
        )
    yield from found


def _labels(names: Sequence[str]) -> list[str]:
    """Return a label per group that distinguishes it, from the name of one of its runs.

    For a run of a study, studies/<study>/[<setting>/]<arm>/seed_<n>, the arm, preceded by study and
    setting if these differ; for other runs the name.
    """
    places = [_in_study(name) for name in names]
    differ = [len(set(column)) > 1 for column in zip(*filter(None, places), strict=True)]
    labels = [
        ", ".join(part for part, told in zip(place, [*differ[:2], True], strict=True) if told)
        if place
        else name
        for name, place in zip(names, places, strict=True)
    ]
    return [
        label if labels.count(label) == 1 else name
        for name, label in zip(names, labels, strict=True)
    ]


def _in_study(name: str) -> tuple[str, str, str] | None:
    """Return study, setting (may be "") and arm; None if it is not a study's run."""
    top, *parts = name.split("/")
    if top != "studies" or len(parts) < 3 or not _SEED.fullmatch(parts[-1]):
        return None
    return parts[0], "/".join(parts[1:-2]), parts[-2]
