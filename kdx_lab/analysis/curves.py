"""Training curves: the loss, the primary metric, and the generalisation gap, by epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from kdx_lab.analysis.bands import Band, percent, together
from kdx_lab.analysis.drawing import by_epoch, caption, color_of, dotted, draw_band, finish, legend
from kdx_lab.analysis.figures import panels
from kdx_lab.analysis.runs import Group, Run

__all__ = ["analyze_curves", "gap"]

Curves = Mapping[str, Band]
"""By key of metrics.jsonl, and "gap"; in [0, 1] except the loss."""


def analyze_curves(groups: Sequence[Group], output: Path, console: Console) -> Path:
    """Draw the training curves of groups of runs to curves.png; return its path.

    ValueError if the runs are of different tasks.
    """
    metric, heading = _metric([run for group in groups for run in group.runs])
    curves = [_curves(group, metric) for group in groups]
    trained = [f"train/{metric}" in each for each in curves]
    is_number = metric in groups[0].runs[0].summary.numbers
    shown = (lambda band: band) if is_number else percent
    figure, (loss, score, *more) = panels(3 if any(trained) else 2)
    for index, (group, each) in enumerate(zip(groups, curves, strict=True)):
        color, split = color_of(index), group.runs[0].summary.evaluated_on
        draw_band(loss, each["loss/total"], color=color, label=group.heading)
        draw_band(score, shown(each[f"{split}/{metric}"]), color=color)
        if trained[index]:
            draw_band(score, shown(each[f"train/{metric}"]), color=color, dashed=True)
            draw_band(more[0], shown(each["gap"]), color=color)
    splits = dict.fromkeys(group.runs[0].summary.evaluated_on for group in groups)
    loss.set(ylabel="training loss (weighted sum of its terms)")
    score.set(ylabel=f"{heading} on {' or '.join(splits)} images{'' if is_number else ' [%]'}")
    for axes in more:
        axes.set(
            ylabel=f"{heading}, train - {' or '.join(splits)}{'' if is_number else ' [points]'}"
        )
    by_epoch([loss, score, *more], groups)
    dashed = "dashed: training images" if any(trained) else ""
    legend(figure, loss, caption=caption(groups, dashed, dotted(groups)))
    numbers = {"metric": metric, "groups": [
        group.about | {"stage_ends": group.runs[0].stage_ends, "curves": each}
        for group, each in zip(groups, curves, strict=True)
    ]}  # fmt: skip
    return finish(figure, output / "curves.png", numbers, console)


def gap(train: Mapping[float, float], test: Mapping[float, float]) -> dict[float, float]:
    """Return train minus test metric, at each epoch that has both."""
    return {at: train[at] - test[at] for at in train if at in test}


def _metric(runs: Sequence[Run]) -> tuple[str, str]:
    names = {
        run.summary.primary_metric: run.summary.headings[run.summary.primary_metric] for run in runs
    }
    if len(names) > 1:
        raise ValueError(
            f"the runs have different metrics ({', '.join(names.values())}): draw the runs of each "
            "task separately"
        )
    return next(iter(names.items()))


def _curves(group: Group, metric: str) -> Curves:
    split = group.runs[0].summary.evaluated_on
    keys = ("loss/total", f"{split}/{metric}", f"train/{metric}")
    lines = [run.metrics() for run in group.runs]
    found = {
        key: [{line["epoch"]: line[key] for line in run if key in line} for run in lines]
        for key in keys
    }
    for run, *series in zip(group.runs, *(found[key] for key in keys[:2]), strict=True):
        if not all(series):
            raise ValueError(f"{run.path}: metrics.jsonl has no {keys[0]} or no {keys[1]}")
    bands = {key: together(series) for key, series in found.items() if all(series)}
    if keys[2] in bands:
        pairs = zip(found[keys[2]], found[keys[1]], strict=True)
        bands["gap"] = together([gap(train, test) for train, test in pairs])
    return bands
