"""What a study's table says, in sentences: the best arm, arms at chance, and what it cost."""

from collections.abc import Iterator, Sequence
from math import sqrt
from statistics import fmean
from typing import Any

from kdx.report.summary import Summary
from kdx_lab.study.rows import Results, Row, Rows
from kdx_lab.study.statistics import CONFIDENCE, Difference, holm, paired_difference

__all__ = ["corrected_for", "verdict"]


def verdict(results: Results) -> list[str]:
    """Return sentences on the best arm of each setting and on those that differ from the baseline,
    on each arm at chance, and on the cost.
    """
    best = [text for n in results.settings for say in (_best, _apart) for text in say(results, n)]
    chance = [text for row in results.rows for text in _at_chance(row)]
    return [*best, *chance, *_cost(results.runs, results.tuned)]


def corrected_for(results: Rows[Any], setting: str) -> dict[str, float]:
    """Return Holm's p-values of a setting's arms against the baseline, those with one."""
    found = _differences(results, setting)
    return holm({arm: each.p for arm, each in found.items() if each.p is not None})


def _differences(results: Rows[Any], setting: str) -> dict[str, Difference]:
    rows = [(row.arm, row.outcome.difference) for row in results.of(setting) if row.outcome]
    return {arm: difference for arm, difference in rows if difference}


def _best(results: Results, setting: str) -> Iterator[str]:
    """Name the arm with the best mean, and by how much it leads over the next one."""
    rows = [(row, row.outcome) for row in results.of(setting) if row.outcome]
    sign = -1 if results.errors else 1
    ordered = sorted(rows, key=lambda each: -sign * each[1].test.mean)
    if len(ordered) < 2:
        return
    (first, outcome), (second, other) = ordered[:2]
    lead = paired_difference(outcome.test.values, other.test.values)
    where = f"{setting}: " if setting else ""
    text = f"{where}{first.arm} is best, {outcome.shown(outcome.test.mean)}"
    if not lead or lead.low is None or lead.high is None:
        common = "one seed" if lead else "no seed"
        yield f"{text}; {common} in common with the next, {second.arm}: no interval."
        return
    mean, low, high = (outcome.shown(each, sign=True) for each in (lead.mean, lead.low, lead.high))
    worst, most = sorted((sign * lead.low, sign * lead.high))
    doubt = ": the interval has 0 in it, so seeds alone may explain the lead"
    if worst > 0:
        doubt = ""
    elif most < 0:  # the means are over all seeds of each, of which some are missing
        doubt = f": of the seeds that both have finished, {second.arm} is better"
    yield f"{text}, {mean} [{low}, {high}] to the next, {second.arm} ({CONFIDENCE:.0%} CI){doubt}."


def _apart(results: Results, setting: str) -> Iterator[str]:
    """Name the arms that differ from the baseline when several comparisons are allowed for."""
    found = _differences(results, setting)
    corrected, sign = corrected_for(results, setting), -1 if results.errors else 1
    if len(corrected) < 2:
        return
    sides = {"better": 1, "worse": -1}
    parts = [
        f"{arm} is {side} (p = {p:.2g})"
        for side, of in sides.items()
        for arm, p in corrected.items()
        if p < 1 - CONFIDENCE and sign * of * found[arm].mean > 0
    ]
    findings = ", ".join(parts) or f"no arm differs (smallest p = {min(corrected.values()):.2g})"
    where = f"{setting}: " if setting else ""
    count = f"corrected for {len(corrected)} comparisons (Holm)"
    yield f"{where}against {results.baseline}, {count}: {findings}."


def _at_chance(row: Row) -> Iterator[str]:
    """Call out a classifier whose mean is within two standard errors of guessing."""
    classes = [len(next(iter(run.by_class.values()))) for run in row.runs.values() if run.by_class]
    if not row.outcome or row.outcome.metric != "top1" or not classes:
        return
    chance, images = 1 / classes[0], next(iter(row.runs.values())).test_images
    mean = fmean(run.test["top1"] for run in row.runs.values())
    if mean <= chance + 2 * sqrt(chance * (1 - chance) / images):
        where = f"{row.setting}, {row.arm}" if row.setting else row.arm
        yield f"{where} is at chance ({mean:.2%}; chance is {chance:.2%}): it did not learn."


def _cost(runs: Sequence[Summary], tuned: bool) -> Iterator[str]:
    """Add up the hours of GPUs and of CPU cores that training took."""
    hours: dict[str, float] = {}
    for run in runs:
        about, on_gpu = run.environment, str(run.environment.get("device")).startswith("cuda")
        each = int(about.get("processes", 1)) * (1 if on_gpu else int(about.get("threads", 1)))
        unit = "GPU hours" if on_gpu else "CPU core hours"
        hours[unit] = hours.get(unit, 0) + each * run.seconds / 3600
    if hours:
        parts = " and ".join(f"{value:,.3g} {unit}" for unit, value in hours.items())
        rest = ", without the trials of `tune`" if tuned else ""
        yield f"Training of the finished runs took {parts}{rest}."
