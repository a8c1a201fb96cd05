"""Finished runs by their directories, and which of them repeat one another."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from kdx.recipe import Recipe, load
from kdx.recipe.paths import REPLACED
from kdx.run.directory import is_finished
from kdx.run.summary import FILE as SUMMARY
from kdx.run.summary import Summary, read_summary
from kdx.training.log import METRICS

__all__ = ["Group", "Run", "find_runs", "grouped", "output_of"]

FOLDER = "analysis"
SAME = {"seed", "name", "threads", "processes"}
"""Keys in which the recipes of runs differ that repeat one another."""

_SEED = re.compile(r"seed_\d+")


@dataclass(frozen=True)
class Run:
    """A finished run: its directory, its resolved recipe, and what came out of it."""

    path: Path
    recipe: Recipe
    summary: Summary

    @property
    def analysis(self) -> Path:
        """The directory of what is found out about this run alone."""
        return self.path / FOLDER

    @property
    def stage_ends(self) -> list[int]:
        """The epochs after which another stage began, counted from 1."""
        return list(accumulate(stage.epochs for stage in self.recipe.resolved_stages()))[:-1]

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl, one an epoch; ValueError where they cannot be read."""
        path = self.path / METRICS
        try:
            return [json.loads(line) for line in path.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: no metrics of a run: {error}") from error


@dataclass(frozen=True)
class Group:
    """Runs that repeat one another: their recipes differ in nothing but `SAME`."""

    label: str
    runs: tuple[Run, ...]

    @property
    def heading(self) -> str:
        """The label, and how many runs there are of it."""
        return f"{self.label} (n = {len(self.runs)})"

    @property
    def about(self) -> dict[str, Any]:
        """What the numbers of a figure say of the group."""
        return {"label": self.label, "runs": [str(run.path) for run in self.runs]}


def find_runs(
    places: Sequence[Path], *, plugins: Iterable[str] = (), output_root: str = "runs"
) -> list[Run]:
    """Return the finished runs at `places`: runs, or directories that hold some at any depth.

    `plugins` and `output_root` as in `kdx.recipe.load`. Raises ValueError for a place without a
    finished run, RecipeError for recipes that cannot be read any more.
    """
    plugins = tuple(plugins)
    found: dict[Path, Path] = {}  # a run that is named twice, in whatever way, is one
    for path in (path for place in places for path in _finished(place)):
        found.setdefault(path.resolve(), path)
    return [
        Run(path, load(path / "recipe.yaml", plugins=plugins, output_root=output_root),
            read_summary(path))
        for path in found.values()
    ]  # fmt: skip


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Return the runs in groups, in the order given; within a group by their seeds."""
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
    """Return where figures of the runs go: beside the one, or below what all are in."""
    if len(runs) == 1:
        return runs[0].analysis
    return Path(os.path.commonpath([run.path.resolve() for run in runs])) / FOLDER


def _finished(place: Path) -> Iterator[Path]:
    """Yield the finished runs at or below a place; ValueError where there is none."""
    if not place.is_dir():
        raise ValueError(f"{place}: no such directory: name a run's, or one that holds runs")
    below = sorted((path.parent for path in place.rglob(SUMMARY)), key=_naturally)
    found = [path for path in below if is_finished(path) and not _stands_aside(path)]
    if not found:
        raise ValueError(
            f"{place}: no finished run (with summary.json and student.safetensors) in it: let "
            "tools/distill.py end the run, by --resume where it was stopped"
        )
    yield from found


def _stands_aside(path: Path) -> bool:
    return any(part.endswith(REPLACED) for part in path.parts)


def _naturally(path: Path) -> list[tuple[str, int]]:
    """Sort seed_2 before seed_10."""
    pieces = re.findall(r"(\D*)(\d*)", str(path))
    return [(text, int(number or -1)) for text, number in pieces]


def _labels(names: Sequence[str]) -> list[str]:
    """Return what tells groups apart, by the name of a run of each.

    Of the runs of a study, studies/<study>/[<setting>/]<arm>/seed_<n>, the arm, after what of
    study and setting is not the same in all of them; of other runs the name.
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
    """Return study, setting ("" where there is none) and arm; None for a run of no study."""
    top, *parts = name.split("/")
    if top != "studies" or len(parts) < 3 or not _SEED.fullmatch(parts[-1]):
        return None
    return parts[0], "/".join(parts[1:-2]), parts[-2]
