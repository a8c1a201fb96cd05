"""The page that compares several runs."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile

from kdx.recipe.resuming import flat
from kdx.report.blocks import Block, Figure, Page, Section, Table, Text
from kdx.report.charts import Line
from kdx.report.curves import drawn, headings_of, points, primary_of
from kdx.report.files import RunFiles
from kdx.report.student_file import weight_ranges
from kdx.report.trained import in_a_sentence
from kdx.report.weights import weight_blocks
from kdx.report.wording import OF_IMAGES, flow, standard_error
from kdx.util.words import counted, measured


def compare_page(runs: Sequence[RunFiles]) -> Page:
    """Return the page of several runs: their results, curves, and in what their recipes differ."""
    names = _names(runs)
    students = {name: weight_ranges(run.path) for name, run in zip(names, runs, strict=True)}
    sections = [
        Section("Results", _results(runs, names)),
        Section("Curves", _curves(runs, names)),
        Section("Weight ranges", weight_blocks(students)),
        Section("What differs in the recipes", _differences(runs, names)),
    ]
    lead = "One run each, one seed each; kdx study compares recipes over seeds."
    title = counted(len(runs), "run")
    return Page("Comparison", title, lead, [s for s in sections if s.blocks])


def _names(runs: Sequence[RunFiles]) -> list[str]:
    """Return the runs' names below the folder of all, or their directories if two are the same."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        return [str(run.path) for run in runs]
    parts = [name.split("/") for name in names]
    levels = zip(*(folders for *folders, _ in parts), strict=False)  # down to the shallowest
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    return ["/".join(each[shared:]) for each in parts]


def _results(runs: Sequence[RunFiles], names: Sequence[str]) -> list[Block]:
    headings = {name: text for run in runs for name, text in headings_of(run)[0].items()}
    columns: list[tuple[str, Callable[[RunFiles], str]]] = [
        ("trained", in_a_sentence),
        *((f"test {text}", partial(_test, name)) for name, text in headings.items()),
        ("test images", lambda run: f"{run.summary.test_images:,}" if run.summary else ""),
        ("ECE", lambda run: f"{run.classes.calibration.ece:.2%}"
         if run.classes and run.classes.calibration else ""),
        ("parameters", lambda run: _count(run, "compact")),
        ("in training", lambda run: _count(run, "trained")),
        ("epochs", lambda run: f"{len(run.epochs):,}"),
        ("seconds", lambda run: f"{run.summary.seconds:,.1f}" if run.summary else ""),
        ("images/s", lambda run: f"{run.summary.images_per_second:,.0f}" if run.summary else ""),
        ("certificate", lambda run: "" if run.certificate is None
         else "holds" if run.certificate.holds else "does not hold"),
    ]  # fmt: skip
    rows = [
        [name, *(cell(run) for _, cell in columns)] for name, run in zip(names, runs, strict=True)
    ]
    kept = [0, *(n for n in range(1, len(columns) + 1) if any(row[n] for row in rows))]
    heading = ["run", *(text for text, _ in columns)]
    table = Table([heading[n] for n in kept], [[row[n] for n in kept] for row in rows], words=2)
    blocks: list[Block] = [table]
    if set(headings) & set(OF_IMAGES):
        blocks.append(Text("±: the binomial standard error over the test images, in points."))
    if len({run.summary.test_images for run in runs if run.summary}) > 1:
        blocks.append(Text("The runs have different test images."))
    return blocks


def _test(name: str, run: RunFiles) -> str:
    if run.summary is None or name not in run.summary.test:
        return ""
    value, n = run.summary.test[name], run.summary.test_images
    error = f" ± {100 * standard_error(value, n):.2f}" if name in OF_IMAGES and n else ""
    return f"{measured(name, value, run.summary.numbers)}{error}"


def _count(run: RunFiles, which: str) -> str:
    return (
        f"{run.summary.parameters[which]:,}"
        if run.summary and which in run.summary.parameters
        else ""
    )


def _curves(runs: Sequence[RunFiles], names: Sequence[str]) -> list[Figure]:
    """A run has the same colour in every figure."""
    named, found = list(zip(names, runs, strict=True)), []
    for metric in dict.fromkeys(map(primary_of, runs)):
        of = [run for run in runs if primary_of(run) == metric]
        headings, numbers = headings_of(of[0])
        scale, unit = (1, "") if metric in numbers else (100, " (%)")
        series = [
            Line(name, points(run.epochs, f"{run.split}/{metric}", scale) if run in of else [])
            for name, run in named
        ]
        splits = " or ".join(dict.fromkeys(run.split for run in of))
        text = headings.get(metric, metric)
        found.append(drawn(f"{text} on {splits}", series, f"{text}{unit}"))
    losses, rates = (
        [Line(name, points(run.epochs, key)) for name, run in named]
        for key in ("loss/total", "learning_rate")
    )
    found.append(drawn("Training loss", losses, "weighted loss", log=True))
    found.append(drawn("Learning rate", rates, "learning rate"))
    return [figure for figure in found if figure]


def _differences(runs: Sequence[RunFiles], names: Sequence[str]) -> list[Block]:
    absent = ("null", "[]", "{}")
    texts = [{k: flow(v) for k, v in flat(run.recipe).items()} for run in runs]
    shown = [{k: text for k, text in each.items() if text not in absent} for each in texts]
    keys = [key for key in dict.fromkeys(key for each in shown for key in each) if key != "name"]
    rows = [[key, *(each.get(key, "-") for each in shown)] for key in keys
            if len({each.get(key) for each in shown}) > 1]  # fmt: skip
    if not rows:
        return [Text("Nothing but their names.")]
    return [Table(["key", *names], rows, words=1 + len(names))]
