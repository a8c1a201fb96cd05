"""Analyses of finished runs: training curves, gradient confusion, loss landscapes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from kdx_lab.analysis.confusion import analyze_confusion
from kdx_lab.analysis.curves import analyze_curves
from kdx_lab.analysis.figures import check_available
from kdx_lab.analysis.landscape import analyze_landscape
from kdx_lab.analysis.runs import find_runs, grouped, output_of

__all__ = ["analyze"]

ANALYSES: Mapping[str, Callable[..., Path]] = {
    "curves": analyze_curves,
    "confusion": analyze_confusion,
    "landscape": analyze_landscape,
}


def analyze(
    what: Literal["curves", "confusion", "landscape"],
    places: Sequence[Path],
    console: Console,
    *,
    output: Path | None = None,
    plugins: Sequence[str] = (),
    output_root: str = "runs",
    **options: Any,
) -> Path:
    """Analyse the finished runs at `places`; return the path of the last figure.

    Figures go to `output`, by default `analysis/` in the run, or in the innermost directory that
    contains all runs. `options` are those of the analysis. Raises ValueError without matplotlib,
    without finished runs, and as the analysis does.
    """
    check_available()
    runs = find_runs(places, plugins=plugins, output_root=output_root)
    return ANALYSES[what](grouped(runs), output or output_of(runs), console, **options)
