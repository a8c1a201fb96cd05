"""The numbers of a figure of `kdx analyze`, or of benchmarks/int8.py, as a Markdown table."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from kdx.util.markdown import markdown_table
from kdx_lab.analysis.similarity import angles_of
from kdx_lab.study.cell import label
from kdx_lab.study.statistics import paired_difference

__all__ = ["table_of"]


def table_of(found: Mapping[str, Any]) -> str:
    """Return the table of a landscape's half-widths, a confusion's cosines, or curves' metrics.

    Of students in int8: how many predictions change, and the metric, in points.

    Raises ValueError for curves of arms that were evaluated after different epochs.
    """
    groups = found["groups"]
    if "rounded" in found:
        change = ("change of the metric [95% CI]", "worst seed")
        headings = ["students", "n", "predictions changed", *change]
        return markdown_table(headings, [_rounded(group) for group in groups])
    if "rise" in found:
        beyond = f"a side > {found['grid']['span']:g}"
        runs = [
            (group["label"], ", ".join(beyond if w is None else f"{w:.2f}" for w in widths))
            for group in groups
            if (widths := group["compact"]["half-widths"])
        ]
        return markdown_table(["arm", "half-width (norms) of each run"], runs)
    if "metric" in found:
        bands = [_evaluated(group["curves"], found["metric"]) for group in groups]
        if any(band["x"] != bands[0]["x"] for band in bands):
            raise ValueError("arms were evaluated after different epochs")
        epochs = [f"epoch {epoch:g}" for epoch in bands[0]["x"]]
        rows = [_by_epoch(group, band) for group, band in zip(groups, bands, strict=True)]
        return markdown_table(["arm", "n", *epochs], rows)
    headings = ["arm", "n", "parameters compared", "cosines, last epoch", "least of the pairs"]
    return markdown_table(headings, [_cosines(group) for group in groups])


def _rounded(group: dict[str, Any]) -> Sequence[str]:
    """Return the row's cells: predictions changed as a mean, points of int8 to float, paired."""
    floats, rounded = (dict(enumerate(group[key])) for key in ("float", "int8"))
    gained = paired_difference(rounded, floats)
    assert gained is not None
    ends = () if gained.low is None or gained.high is None else (gained.low, gained.high)
    points = (gained.mean, min(gained.values.values()), *ends)
    mean, worst, *ends = (f"{100 * each:+z.2f}" for each in points)
    changed = f"{fmean(group['changed']):.0f}"
    interval = f" [{', '.join(ends)}]" if ends else ""
    students = label(group["setting"], group["label"])
    return students, str(len(floats)), changed, f"{mean}{interval}", worst


def _evaluated(curves: dict[str, Any], metric: str) -> dict[str, Any]:
    """Return the band of the metric on the images of the evaluations, not the training ones."""
    return next(
        band for key, band in curves.items() if key in (f"validation/{metric}", f"test/{metric}")
    )


def _by_epoch(group: dict[str, Any], band: dict[str, Any]) -> Sequence[str]:
    """Return the row's cells: a metric in [0, 1] in percent, mean and spread over the runs."""
    runs = len(group["runs"])
    spreads = [f" ± {100 * std:.1f}" if runs > 1 else "" for std in band["std"]]
    cells = [f"{100 * mean:.1f}{s}" for mean, s in zip(band["mean"], spreads, strict=True)]
    return group["label"], str(runs), *cells


def _cosines(group: dict[str, Any]) -> Sequence[str]:
    """Return the row's cells: mean and spread over the pairs of all runs, the mean least cosine."""
    runs = group["similarities of runs"]
    cosines = angles_of([value for run in runs for value in run])
    least, count = group["minimum"]["mean"][-1], group["parameters"]["count"]
    shown = f"{fmean(cosines):.3f} ± {stdev(cosines):.3f}"
    return group["label"], str(len(runs)), f"{count:,}", shown, f"{least:.2f}"
