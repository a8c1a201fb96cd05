"""The curves of metrics.jsonl."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite

from kdx.report.blocks import Figure
from kdx.report.charts import Line, lines
from kdx.report.files import RunFiles

WIDE = 50  # times the smallest value: then an axis of losses is logarithmic


def curves(run: RunFiles) -> list[Figure]:
    """Return the figures that there are numbers for: metrics, losses, learning rate, weights."""
    return [figure for figure in (*_of_metrics(run), *_of_training(run)) if figure]


def _of_metrics(run: RunFiles) -> list[Figure | None]:
    """Return the metric that chooses the epoch on every split, and the others on one."""
    split, primary, (headings, numbers) = run.split, primary_of(run), headings_of(run)
    every = {**headings, "agreement": "agreement with the teacher"}
    shares = {
        text: f"{split}/{name}"
        for name, text in every.items()
        if name not in {primary, *numbers} and points(run.epochs, f"{split}/{name}")
    }
    several = len(shares) > 1
    title = f"Other metrics on {split}" if several else "".join(shares)
    heading, is_number = headings.get(primary, primary), primary in numbers
    unit, scale = ("", 1) if is_number else (" (%)", 100)
    return [
        _figure(run, heading, _splits(run, primary), f"{heading}{unit}", scale=scale),
        _figure(run, title, shares, "metric (%)" if several else f"{title} (%)", scale=100),
        *(
            _figure(run, headings[name], {split: f"{split}/{name}"}, headings[name])
            for name in numbers
            if name in headings and name != primary
        ),
        _figure(run, "Loss in evaluation", _splits(run, "loss"), "loss", log=True),
    ]


def _of_training(run: RunFiles) -> list[Figure | None]:
    terms, total, rate = _terms(run, "loss/"), {"total": "loss/total"}, "learning rate"
    terms = {label: key for label, key in terms.items() if key not in total.values()}
    several = len(terms) > 1
    weighted = _terms(run, "weighted/") if several else {}
    norms = _terms(run, "gradient/")
    return [
        _figure(run, "Training loss", total | weighted, "weighted loss", log=True),
        _figure(run, "Terms of the loss", terms if several else {}, "loss, unweighted", log=True),
        _figure(run, "Learning rate", {rate: "learning_rate"}, rate),
        _figure(run, "Weights of the terms", _terms(run, "weight/"), "weight"),
        _figure(run, "Gradients of the terms", norms, "gradient norm", log=True),
        _figure(run, "Cosine to the task's gradient", _terms(run, "cosine/"), "cosine"),
    ]


def _splits(run: RunFiles, name: str) -> dict[str, str]:
    """Return the keys of a metric on each split, by label."""
    split = run.split
    keys = {split: split, f"{split}, average": f"{split}_average", "train": "train"}
    return {label: f"{key}/{name}" for label, key in keys.items()}


def headings_of(run: RunFiles) -> tuple[Mapping[str, str], Sequence[str]]:
    """Return the headings of the metrics by name, and which of them are not shares."""
    if run.summary:
        return run.summary.headings, run.summary.numbers
    ends = [key.partition("/")[2] for line in run.epochs for key in line
            if key.startswith(f"{run.split}/")]  # fmt: skip
    named = dict.fromkeys(
        end for end in ends if end not in ("loss", "agreement") and "/" not in end
    )
    return {name: name for name in named}, ()


def primary_of(run: RunFiles) -> str:
    """Return the name of the metric that chooses the best epoch; "" if none was measured."""
    return run.summary.primary_metric if run.summary else next(iter(headings_of(run)[0]), "")


def points(
    epochs: Sequence[Mapping[str, object]], key: str, scale: float = 1
) -> list[tuple[float, float]]:
    """Return (epoch, scaled value) where a key has a number; NaN and Inf are kept, for the gap."""
    found = [(line["epoch"], line.get(key)) for line in epochs]
    return [(float(e), scale * v) for e, v in found
            if isinstance(e, int) and isinstance(v, int | float)]  # fmt: skip


def stage_ends(run: RunFiles) -> list[float]:
    """Return where, between two epochs, another stage begins."""
    return [
        one["epoch"] + 0.5
        for one, next in pairwise(run.epochs)
        if one.get("stage") != next.get("stage")
    ]


def _terms(run: RunFiles, prefix: str) -> dict[str, str]:
    """Return the keys with a prefix, by the rest of their names."""
    keys = dict.fromkeys(key for line in run.epochs for key in line if key.startswith(prefix))
    return {key.removeprefix(prefix): key for key in keys}


def _figure(
    run: RunFiles,
    title: str,
    keys: Mapping[str, str],
    y: str,
    *,
    scale: float = 1,
    log: bool = False,
) -> Figure | None:
    """Draw keys of metrics.jsonl by their labels; None without any number."""
    found = [Line(label, points(run.epochs, key, scale)) for label, key in keys.items()]
    series = [line for line in found if any(isfinite(v) for _, v in line.points)]
    if len(series) == 1 and series[0].label == run.split:
        title = f"{title} on {run.split}"
    return drawn(title, series, y, log=log, marks=stage_ends(run))


def drawn(
    title: str, series: Sequence[Line], y: str, *, log: bool = False, marks: Sequence[float] = ()
) -> Figure | None:
    """Draw lines over the epochs, with `marks` where stages begin; None without any number."""
    values = [v for line in series for _, v in line.points if isfinite(v)]
    if not values:
        return None
    # A logarithmic axis shows more of positive values that are far apart.
    log = log and min(values) > 0 and max(values) > WIDE * min(values)
    svg = lines(series, x="epoch", y=y, marks=marks, log=log)
    note = "Dotted: the next stage begins." if marks else ""
    return Figure(title, svg, [line.label for line in series], note)
