"""Gradient confusion: the minimum similarity of mini-batches by epoch, and the final density."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from kdx.util.printing import say
from kdx.util.words import counted
from kdx_lab.analysis.bands import together
from kdx_lab.analysis.drawing import by_epoch, caption, color_of, dotted, draw_band, finish, legend
from kdx_lab.analysis.figures import panels
from kdx_lab.analysis.gradients import Kept, Of, measure
from kdx_lab.analysis.opening import kept_epochs, open_run
from kdx_lab.analysis.runs import Group, Run
from kdx_lab.analysis.similarity import angles_of, density, minimum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["analyze_confusion"]

CAPTIONS: Mapping[Of, str] = {
    "trained": "gradients of all trained parameters; for expanded layers, of the factors",
    "folded": "gradients of the compact network's parameters, which computes the same function",
}
Similarities = Mapping[int, Sequence[float]]
"""Cosines of the pairs of mini-batches, by epoch from 1."""


def analyze_confusion(
    groups: Sequence[Group],
    output: Path,
    console: Console,
    *,
    pairs: int = 100,
    every: int = 1,
    of: Of = "trained",
) -> Path:
    """Draw the gradient confusion of groups of runs to confusion.png; return its path.

    Compares `pairs` pairs of mini-batches at every `every`-th epoch with a checkpoint, and at the
    last one. Results are stored in the run directory, so that an interrupted analysis continues.
    Raises ValueError if a run cannot be opened, and for `folded` if no epoch has a compact
    equivalent.
    """
    if pairs < 1 or every < 1:
        raise ValueError(f"--pairs {pairs}, --every {every}: both must be 1 or more")
    numbers = [_of_group(group, of, pairs, every, console) for group in groups]
    for group, each in zip(groups, numbers, strict=True):
        say(console, _line(group, each))
    name = "confusion" if of == "trained" else f"confusion_{of}"
    about = {"of": of, "pairs": pairs, "caption": CAPTIONS[of], "groups": numbers}
    return finish(_figure(groups, numbers, of), output / f"{name}.png", about, console)


def _of_group(group: Group, of: Of, pairs: int, every: int, console: Console) -> dict[str, Any]:
    found, parameters = [], {}
    for run in group.runs:
        similarities, parameters = _of_run(run, of, pairs, every, console)
        found.append(similarities)
    least = [{at: minimum(values) for at, values in each.items()} for each in found]
    last = [list(each[max(each)]) for each in found]
    drawn = density([value for each in last for value in each])
    return group.about | {
        "parameters": {"count": sum(parameters.values()), "tensors": parameters},
        "minimum": together(least),
        "minimum of runs": least,
        "similarities of runs": last,
        "density": drawn and dict(zip("xy", drawn, strict=True)),
    }


def _figure(groups: Sequence[Group], numbers: Sequence[dict[str, Any]], of: Of) -> "Figure":
    figure, (course, end) = panels(2)
    for index, (group, each) in enumerate(zip(groups, numbers, strict=True)):
        color, count = color_of(index), each["parameters"]["count"]
        label = f"{group.heading}, {count:,} parameters"
        draw_band(course, each["minimum"], color=color, label=label)
        if each["density"]:
            end.plot(each["density"]["x"], each["density"]["y"], color=color)
    pairs = len(numbers[0]["similarities of runs"][0])
    course.set(ylabel="cosine similarity", title=f"minimum of {counted(pairs, 'pair')} of batches")
    end.set(xlabel="cosine similarity", ylabel="kernel density", title="at the last epoch")
    end.axvline(0, color="black", linewidth=0.8, alpha=0.5)
    by_epoch([course], groups)
    legend(figure, course, caption=caption(groups, CAPTIONS[of], dotted(groups)))
    return figure


def _line(group: Group, numbers: Mapping[str, Any]) -> str:
    """Summarise a group: `cl_fc (n = 2)  at the last epoch 0.021 +- 0.173, minimum -0.279`."""
    drawn = [value for each in numbers["similarities of runs"] for value in each]
    angles, least = angles_of(drawn), numbers["minimum"].mean
    if not (angles and len(least)):
        return f"{group.heading}  no cosines: every gradient is zero, NaN or Inf"
    mean, spread = float(np.mean(angles)), float(np.std(angles))
    without = len(drawn) - len(angles)
    left_out = f"; {counted(without, 'pair')} with a zero or non-finite gradient left out"
    text = f"at the last epoch {mean:.3f} +- {spread:.3f}, minimum {least[-1]:.3f}"
    return f"{group.heading}  {text}{left_out if without else ''}"


def _of_run(
    run: Run, of: Of, pairs: int, every: int, console: Console
) -> tuple[Similarities, dict[str, int]]:
    """Return the similarities of a run by epoch, and the parameters; measure what is not stored."""
    kept, epochs = Kept.of_run(run.analysis, of), _chosen(run, every, console)
    missing = {
        epoch: place for epoch, place in epochs.items() if len(kept.similarities(place)) < pairs
    }
    without = _measure(run, kept, missing, pairs, console) if missing else []
    if without:
        say(
            console,
            f"note     {run.path}: {counted(len(without), 'epoch')} left out: no compact "
            "equivalent in the nonlinear phase",
        )
    found = {e: kept.similarities(p)[:pairs] for e, p in epochs.items() if e not in without}
    if not found:
        raise ValueError(f"{run.path}: no epoch has a compact equivalent: use --of trained")
    return found, kept.parameters


def _measure(
    run: Run, kept: Kept, missing: Mapping[int, Path], pairs: int, console: Console
) -> list[int]:
    """Measure checkpoints by epoch; return the epochs that have no compact equivalent."""
    opened, without = open_run(run), []
    what = f"{counted(len(missing), 'epoch')} of up to {counted(pairs, 'pair')} of mini-batches"
    say(console, f"measure  {run.path}: {what}")
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(run.recipe.name, total=pairs * len(missing))
        for done, (epoch, place) in enumerate(missing.items(), 1):
            if not measure(opened, kept, place, pairs, lambda: bar.advance(task)):
                without.append(epoch)
            bar.update(task, completed=pairs * done)
    return without


def _chosen(run: Run, every: int, console: Console) -> dict[int, Path]:
    """Return every `every`-th epoch with a checkpoint, and the last; warn if most are gone."""
    kept, trained = kept_epochs(run), run.summary.epochs
    chosen = {e: place for e, place in kept.items() if e % every == 0 or e == max(kept)}
    if len(kept) < min(3, trained):
        say(
            console,
            f"note     {run.path} has checkpoints of {counted(len(kept), 'epoch')} of {trained}, "
            f"too few for a curve: train it with keep_checkpoints={trained}",
        )
    return chosen
