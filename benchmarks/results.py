"""The tables of docs/results.md, from the studies' results that are committed beside it.

    python -m benchmarks.results runs/studies/fashion_mnist/transforms   # keep its results.json
    python -m benchmarks.results                                         # write the tables again

A table stands below a line `<!-- table NAME.json | setting | columns -->`, its rows ordered by the
test metric, the best first: columns are headings, or how they begin, of `kdx study`'s own tables,
and `ece`, the calibration error (%). Setting `*` is the test metric of all settings, `3x3*` of
those whose names begin so. That below `<!-- situations -->` is of docs/results/situations.yaml,
that below `<!-- analysis NAME.json -->` of the numbers of a figure of `kdx analyze` or of
benchmarks/int8.py, which are kept with the figure if the study's directory has its `analysis/`.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median

import yaml

from benchmarks.figure_tables import table_of
from kdx.commands.shared import guarded
from kdx.report.contents import checked
from kdx.report.files import read
from kdx.util.files import write_whole
from kdx.util.markdown import markdown_table
from kdx_lab.study.making import slug
from kdx_lab.study.rows import Outcome
from kdx_lab.study.statistics import CONFIDENCE, Difference, holm, paired_difference
from kdx_lab.study.stored import FILE, StoredResults, StoredRow
from kdx_lab.study.tables import cells_of, columns, overview
from kdx_lab.study.verdict import corrected_for

__all__ = ["PAGE", "main", "rewritten"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"
KEPT = ("ece", "environment", "test_images")
SITUATIONS = PAGE.with_suffix("") / "situations.yaml"
_TABLE = re.compile(r"(<!-- table (\S+) \| (.*?) \| ?(.*?) ?-->\n)(?:\|.*\n)*")
_SITUATIONS = re.compile(r"(<!-- situations -->\n)(?:\|.*\n)*")
_ANALYSIS = re.compile(r"(<!-- analysis (\S+) -->\n)(?:\|.*\n)*")


@dataclass(frozen=True)
class Comparison:
    """A row of "What should I use?": arms are (study, setting, arm), `see` links a section.

    `over` is what the arm is compared with: by default the baseline of its study. `timed`: show the
    ratio of their training times; false if they ran beside different loads.
    """

    tried: str
    arm: tuple[str, str, str]
    see: str
    situation: str = ""
    over: tuple[str, str, str] | None = None
    timed: bool = True


def main(arguments: list[str] | None = None) -> None:
    """Keep the results of the studies that are named, and write all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", type=Path, metavar="STUDY", help="its run directory")
    for study in parser.parse_args(arguments).studies:
        _keep(study)
    write_whole(PAGE, rewritten(PAGE.read_text(encoding="utf-8")))


def rewritten(page: str) -> str:
    """Return the page with all of its tables as the committed results have them."""
    page = _SITUATIONS.sub(lambda found: found[1] + _situations() + "\n", page)
    page = _ANALYSIS.sub(lambda found: found[1] + _analysis(found[2]) + "\n", page)
    return _TABLE.sub(lambda found: found[1] + _table(found[2], found[3], found[4]) + "\n", page)


def _keep(study: Path) -> None:
    """Copy a study's results, without what no table shows: a line for each row."""
    content = json.loads((study / FILE).read_text(encoding="utf-8"))
    content["command"] = re.sub(r" --output-root=\S+", "", content["command"])
    if (tuned := study / "tuned.json").is_file():
        content["chosen"] = json.loads(tuned.read_text(encoding="utf-8"))["chosen"]
    rows = content.pop("rows")
    for row in rows:
        row["runs"] = {
            seed: {key: run[key] for key in KEPT if key in run} for seed, run in row["runs"].items()
        }
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    text = f'{json.dumps(content, indent=1)[:-2]},\n "rows": [\n{lines}\n]}}\n'
    name = f"{study.parent.name}_{study.name}"
    write_whole(PAGE.with_suffix("") / f"{name}.json", text)
    _keep_figures(study, name, {slug(row["arm"]): row["arm"] for row in rows})


def _keep_figures(study: Path, name: str, arms: dict[str, str]) -> None:
    """Copy the study's figures of `kdx analyze` with their numbers, as `name`_...

    Groups get the names of their `arms`, runs are relative to the study.
    """
    for path in study.glob("analysis/*.json"):
        numbers = json.loads(path.read_text(encoding="utf-8"))
        for group in numbers["groups"]:
            group["label"] = arms.get(group["label"], group["label"])
            runs = (Path(run).resolve() for run in group["runs"])
            group["runs"] = [run.relative_to(study.resolve()).as_posix() for run in runs]
        text = json.dumps(numbers, separators=(",", ":")) + "\n"
        write_whole(PAGE.with_suffix("") / f"{name}_{path.name}", text)
        figure = path.with_suffix(".png")
        if "rounded" not in numbers:  # which has none
            write_whole(PAGE.parent / "figures" / f"{name}_{figure.name}", figure.read_bytes())


def _situations() -> str:
    """Return the table; bold is what stays below 5% after Holm's correction.

    The correction is over the comparisons of the arm's own table, or over all rows with an `over`.
    """
    rows = checked(list[Comparison], yaml.safe_load(SITUATIONS.read_text(encoding="utf-8")))
    found = [_difference(row) for row in rows]
    across = {str(n): d.p for n, d in enumerate(found) if rows[n].over and d.p is not None}
    chosen = holm(across)
    lines = []
    for n, (row, difference) in enumerate(zip(rows, found, strict=True)):
        study, setting, arm = row.arm
        p = chosen if row.over else corrected_for(_results(f"{study}.json"), setting)
        clear = p.get(str(n) if row.over else arm, 1) < 1 - CONFIDENCE
        lines.append(_compared(row, difference, clear=clear))
    headings = ["your situation", "tried", "see", "effect [95% CI]", "n", "x time"]
    return markdown_table(headings, lines, left=3)


def _difference(row: Comparison) -> Difference:
    """Return the difference of a row's arms, over two seeds or more."""
    study, setting, _ = row.arm
    over = row.over or (study, setting, _results(f"{study}.json").baseline)
    found = paired_difference(*(_outcome(*arm).test.values for arm in (row.arm, over)))
    if found is None or found.low is None:
        raise ValueError(f"docs/results/situations.yaml: {row.arm}: fewer than two seeds in common")
    return found


def _compared(row: Comparison, found: Difference, *, clear: bool) -> Sequence[str]:
    """Return the row's cells: an effect is in points of the metric, so of an error the decrease."""
    study, setting, _ = row.arm
    results, tried = _results(f"{study}.json"), _outcome(*row.arm)
    mean, low, high = found.mean, found.low, found.high
    assert low is not None
    assert high is not None
    if results.errors:
        mean, low, high = -mean, -high, -low
    effect = "{} [{}, {}]".format(*(tried.shown(end, sign=True) for end in (mean, low, high)))
    taken = ""
    if row.timed:
        over = _outcome(*(row.over or (study, setting, results.baseline)))
        took, base = (each.cost.seconds.values for each in (tried, over))
        taken = f"{median(took[seed] / base[seed] for seed in found.values):.1f}"
    shown = f"**{effect}**" if clear else effect
    return row.situation, row.tried, row.see, shown, str(len(found.values)), taken


def _analysis(file: str) -> str:
    numbers = json.loads((PAGE.with_suffix("") / file).read_text(encoding="utf-8"))
    try:
        return table_of(numbers)
    except ValueError as error:
        raise ValueError(f"docs/results/{file}: {error}") from error


def _outcome(study: str, setting: str, arm: str) -> Outcome:
    for row in _results(f"{study}.json").of(setting):
        if row.arm == arm and row.outcome:
            return row.outcome
    raise ValueError(f"docs/results/{study}.json: no finished arm {arm!r} in setting {setting!r}")


def _results(file: str) -> StoredResults:
    if results := read(PAGE.with_suffix("") / file, partial(checked, StoredResults)):
        return results
    raise ValueError(f"docs/results/{file}: missing")


def _table(file: str, setting: str, wanted: str) -> str:
    results = _results(file)
    if setting.endswith("*"):
        rows = [row for row in results.rows if row.setting.startswith(setting[:-1])]
        return overview(replace(results, rows=rows))
    done = [(row.outcome.test.mean, row) for row in results.of(setting) if row.outcome]
    rows = [row for _, row in sorted(done, key=lambda each: each[0], reverse=not results.errors)]
    every = columns(results.outcomes, results.baseline)
    names = [name.strip() for name in wanted.split(",")]
    shown = [c for n in names for c in every if c.heading.startswith(n)]
    if not rows or len(shown) != len({*names} - {"ece"}):
        raise ValueError(f"docs/results/{file}: no setting {setting!r}, or columns {wanted!r}")
    headings = ["arm", "n", *(column.heading for column in shown)]
    lines = [cells_of(row.arm, row.runs, row.planned, row.outcome, shown) for row in rows]
    if "ece" in names:
        headings.append("calibration error (%)")
        lines = [[*line, _calibration(row)] for line, row in zip(lines, rows, strict=True)]
    return markdown_table(headings, lines)


def _calibration(row: StoredRow) -> str:
    """Return the mean over the seeds; "" for runs that have none."""
    errors = [run["ece"] for run in row.runs.values() if run.get("ece") is not None]
    return f"{100 * fmean(errors):.2f}" if errors else ""


if __name__ == "__main__":
    sys.exit(guarded(main))
