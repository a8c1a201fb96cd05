"""What the console shows at the end of a run."""

from pathlib import Path

from rich.console import Console

from kdx.models import weights
from kdx.models.certificate import Certificate
from kdx.report.summary import Summary
from kdx.run.class_tables import in_brief
from kdx.run.classes import Classes
from kdx.util.printing import say
from kdx.util.words import counted, measured


def print_result(
    summary: Summary,
    certificate: Certificate,
    classes: Classes | None,
    run_dir: Path,
    console: Console,
    *,
    luck: float = 0.0,
) -> None:
    """Print what was exported: accuracy, size, what the export changed, and where it lies.

    `luck` is what chance may reach of the primary metric.
    """
    first = summary.primary_metric
    test, best = (measured(first, m[first], summary.numbers) for m in (summary.test, summary.best))
    lines = [
        f"compact  {summary.parameters['compact']:,} parameters, {test} "
        f"{summary.headings[first]} on {counted(summary.test_images, 'test image')} (best epoch on "
        f"{summary.evaluated_on}: {best}, epoch {summary.best_epoch})"
    ]
    if summary.test[first] <= luck < 1:
        lines.append(
            f"note     {test} is no better than chance: check the labels, that the network returns "
            "logits (no softmax), and the learning rate"
        )
    if summary.exported == "average":
        lines.append("         it is the average of the student's compact weights")
        is_behind = summary.average and summary.last[first] > summary.average[first]
        if is_behind and summary.evaluated_on == "test":
            own = measured(first, summary.last[first], summary.numbers)
            lines[-1] += f"; the student itself reached {own}: with data.validation the better of "
            lines[-1] += "the two is exported"
    elif summary.parameters["trained"] != summary.parameters["compact"]:
        changed = f"{certificate.predictions_changed:,} of {certificate.predictions:,}"
        changed = f"; predictions changed: {changed}" if certificate.predictions else ""
        lines.append(
            f"         differs from the trained network by {certificate.difference}{changed}"
        )
    lines += [
        f"{name:8} {measured(first, metrics[first], summary.numbers)} {summary.headings[first]}, "
        "simulated, on the test images"
        for name, metrics in summary.simulated.items()
    ]
    teacher, chosen = (summary.teacher or {}).get(first), summary.last
    if summary.exported_epoch == summary.best_epoch:
        chosen = summary.best
    elif summary.exported == "average" and summary.average:
        chosen = summary.average
    if teacher is not None and chosen[first] >= teacher:
        lines.append(
            f"teacher  {measured(first, teacher, summary.numbers)} {summary.headings[first]} on "
            f"{summary.evaluated_on}: no better than the student; a better teacher may help more"
        )
    lines += in_brief(classes) if classes else []
    lines += [f"student  {run_dir / weights.FILE_IN_RUN}", f"report   {run_dir / 'report.html'}"]
    say(console, *lines)
