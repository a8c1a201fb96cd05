"""The curves of metrics.jsonl."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite

from kdx.report.blocks import Figure
from kdx.report.files import Run
from kdx.report.svg import Line, lines

WIDE = 50  # times the smallest value: then an axis of losses is logarithmic


def curves(run: Run) -> list[Figure]:
    """Return the figures that there are numbers for: losses, metrics, learning rate, weights."""
    terms = _terms(run, "loss/")
    split, primary = run.split, primary_of(run)
    own = {split: f"{split}/{primary}", f"{split}, average": f"{split}_average/{primary}",
           "train": f"train/{primary}"}  # fmt: skip
    headings, numbers = headings_of(run)
    others = {
        heading: f"{split}/{name}"
        for name, heading in {**headings, "agreement": "agreement with the teacher"}.items()
        if name != primary and name not in numbers
    }
    heading = headings.get(primary, primary)
    scale = 1 if primary in numbers else 100
    unit = "" if primary in numbers else " (%)"
    weighted = _terms(run, "weighted/") if len(terms) > 2 else {}
    rates, total = {"learning rate": "learning_rate"}, {"total": "loss/total"}
    losses = {split: f"{split}/loss", f"{split}, average": f"{split}_average/loss",
              "train": "train/loss"}  # fmt: skip
    found = [
        _figure(run, heading, own, f"{heading}{unit}", scale=scale),
        _figure(run, f"Other metrics on {split}", others, "metric (%)", scale=100),
        *(_figure(run, headings[n], {split: f"{split}/{n}"}, headings[n])
          for n in headings if n in numbers and n != primary),
        _figure(run, "Training loss", total | weighted, "weighted loss", log=True),
        _figure(run, "Terms of the loss", terms if weighted else {}, "loss, unweighted", log=True),
        _figure(run, "Loss in evaluation", losses, "loss", log=True),
        _figure(run, "Learning rate", rates, "learning rate"),
        _figure(run, "Weights of the terms", _terms(run, "weight/"), "weight"),
        _figure(run, "Gradients of the terms", _terms(run, "gradient/"), "gradient norm", log=True),
        _figure(run, "Cosine to the task's gradient", _terms(run, "cosine/"), "cosine"),
    ]  # fmt: skip
    return [figure for figure in found if figure]


def headings_of(run: Run) -> tuple[Mapping[str, str], Sequence[str]]:
    """Return the headings of the metrics by name, and which of them are not shares."""
    if run.summary:
        return run.summary.headings, run.summary.numbers
    ends = [key.partition("/")[2] for line in run.epochs for key in line
            if key.startswith(f"{run.split}/")]  # fmt: skip
    named = dict.fromkeys(
        end for end in ends if end not in ("loss", "agreement") and "/" not in end
    )
    return {name: name for name in named}, ()


def primary_of(run: Run) -> str:
    """Return the name of the metric that chooses the best epoch; "" if none was measured."""
    return run.summary.primary if run.summary else next(iter(headings_of(run)[0]), "")


def points(
    epochs: Sequence[Mapping[str, object]], key: str, scale: float = 1
) -> list[tuple[float, float]]:
    """Return (epoch, scaled value) where a key has a number; NaN and Inf are kept, for the gap."""
    found = [(line["epoch"], line.get(key)) for line in epochs]
    return [(float(e), scale * v) for e, v in found
            if isinstance(e, int) and isinstance(v, int | float)]  # fmt: skip


def spread_out(series: Sequence[Line]) -> bool:
    """Return whether positive values are so far apart that a logarithmic axis shows more."""
    values = [v for line in series for _, v in line.points if isfinite(v)]
    return bool(values) and min(values) > 0 and max(values) > WIDE * min(values)


def stage_ends(run: Run) -> list[float]:
    """Return where, between two epochs, another stage begins."""
    return [
        one["epoch"] + 0.5
        for one, next in pairwise(run.epochs)
        if one.get("stage") != next.get("stage")
    ]


def _terms(run: Run, prefix: str) -> dict[str, str]:
    """Return the keys with a prefix, by the rest of their names."""
    keys = dict.fromkeys(key for line in run.epochs for key in line if key.startswith(prefix))
    return {key.removeprefix(prefix): key for key in keys}


def _figure(
    run: Run, title: str, keys: Mapping[str, str], y: str, *, scale: float = 1, log: bool = False
) -> Figure | None:
    """Draw keys of metrics.jsonl by their labels; None without any number."""
    found = [Line(label, points(run.epochs, key, scale)) for label, key in keys.items()]
    series = [line for line in found if any(isfinite(v) for _, v in line.points)]
    if not series:
        return None
    marks = stage_ends(run)
    svg = lines(series, x="epoch", y=y, marks=marks, log=log and spread_out(series))
    note = "Dotted: the next stage begins." if marks else ""
    if len(series) == 1 and series[0].label == run.split:
        title = f"{title} on {run.split}"
    return Figure(title, svg, [line.label for line in series], note)
