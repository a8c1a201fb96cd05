"""What the numbers in a study's tables mean, and where they come from."""

from collections import Counter
from collections.abc import Iterable, Mapping

from kdx.recipe import Recipe
from kdx.report.summary import environment_rows
from kdx.util.words import counted
from kdx_lab.study.rows import Results
from kdx_lab.study.statistics import CONFIDENCE
from kdx_lab.study.tables import heading_of, unit_of

__all__ = ["meaning", "where_it_ran"]


def meaning(results: Results) -> list[str]:
    """Return what the numbers of a study mean, a paragraph each."""
    outcomes = results.outcomes
    if not outcomes:
        return ["No run is finished yet."]
    paragraphs = [_measuring(results), _comparing(results), _costing(results)]
    return list(filter(None, paragraphs))


def _measuring(results: Results) -> str:
    outcomes = results.outcomes
    images = " or ".join(f"{n:,}" for n in sorted({run.test_images for run in results.runs}))
    selected = " or ".join(dict.fromkeys(o.selected for o in outcomes))
    splits = list(dict.fromkeys(o.evaluated_on for o in outcomes))
    text = [
        f"n: finished seeds. Metrics{unit_of(outcomes, ' are in percent')}: mean over the seeds ± "
        f"sample standard deviation. Test: the exported student ({selected}) on the {images} test "
        "images, measured once. Best, last: of the epochs evaluated during training, on "
        f"{' or '.join(splits)}."
    ]
    if results.errors:
        text.append("Errors are one minus the metric: lower is better, and a negative Δ is a gain.")
    if "test" in splits:
        text.append(
            "A best epoch chosen on the test images is an optimistic figure: hold out a "
            "validation split (data.validation) to choose on."
        )
    if any(o.train for o in outcomes):
        text.append("Train: the last epoch on the training images, without augmentation.")
        if any(recipe.data.label_noise for recipe in _recipes(results)):
            text.append("Some labels are random (data.label_noise) and count as true.")
    return " ".join(text)


def _recipes(results: Results) -> list[Recipe]:
    return [cell.recipe for row in results.rows for cell in row.cells.values()]


def _comparing(results: Results) -> str:
    outcomes = results.outcomes
    differences = [o.difference for o in outcomes if o.difference]
    if not differences:
        return ""
    text = (
        f"Δ: arm minus {results.baseline}{unit_of(outcomes, ' in percentage points')} of test "
        f"{heading_of(outcomes)}: the mean of the paired differences, over the seeds that both "
        "arms have finished."
    )
    compared = sum(d.low is not None for d in differences)
    if not compared:
        return f"{text} One seed gives no interval."
    limits = [recipe.data.limit for recipe in _recipes(results)]
    drawn = any(isinstance(limit, int) or (limit and "test" in limit) for limit in limits)
    images = ", each with its own test images" if drawn else ", on these test images only"
    return (
        f"{text} In brackets: the {CONFIDENCE:.0%} confidence interval, Student's t of the paired "
        f"differences. It covers the variation over seeds{images}, and is not corrected for "
        f"multiple comparisons (here {compared}): of {round(1 / (1 - CONFIDENCE))} such intervals "
        "about one misses the true difference."
    )


def _costing(results: Results) -> str:
    ratio = f"; x {results.baseline}: the median of the seeds' ratios"
    compared = ratio if any(o.cost.ratio for o in results.outcomes) else ""
    return (
        f"Seconds and images/s: training only{compared}. They do not measure speed if the machine "
        "did other work as well. Parameters: of the exported student, and in training."
    )


def where_it_ran(environments: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """Return hardware and versions; if runs differ, each with its number of runs."""
    every, facts = [dict(environment_rows(each)) for each in environments], {}
    for key in dict.fromkeys(key for each in every for key in each):
        found = Counter(str(each.get(key, "unknown")) for each in every)
        shown = [f"{value} ({counted(n, 'run')})" for value, n in found.items()]
        facts[key] = next(iter(found)) if len(found) == 1 else ", ".join(shown)
    return facts
