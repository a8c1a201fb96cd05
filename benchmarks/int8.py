"""What rounding to int8 costs the students of a study, as `kdx export RUN --to onnx --int8` has it.

    python -m benchmarks.int8 runs/studies/fashion_mnist/int8
    python -m benchmarks.results runs/studies/fashion_mnist/int8

The first writes analysis/int8.json of the study; students that were exported before are not
exported again. The second keeps it in docs/results/.
"""

import argparse
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figure_tables import table_of
from kdx.exporting.export import export
from kdx.exporting.keeping import read_certificate
from kdx.exporting.source import CERTIFICATE
from kdx.report.contents import checked
from kdx.report.files import read
from kdx.util.files import write_whole
from kdx.util.words import counted, listed
from kdx_lab.study.cell import label
from kdx_lab.study.making import slug
from kdx_lab.study.stored import FILE, StoredResults, StoredRow

ARTEFACT = "exports/student.int8.onnx"
EVERY = 10**6  # test images, and points: whatever it loses, a student is exported


def main(arguments: list[str] | None = None) -> None:
    """Export the students of a study's finished runs, and write what they lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("study", type=Path, help="its run directory")
    add("--only", nargs="+", default=["*"], metavar="PATTERN", help="SETTING/ARM, e.g. '7x7/*'")
    args = parser.parse_args(arguments)
    if not (results := read(args.study / FILE, partial(checked, StoredResults))):
        parser.error(f"{args.study}: no {FILE} in it: name the directory of a study that was run")
    groups = [
        _group(args.study, row)
        for row in results.rows
        if row.runs and any(fnmatchcase(f"{row.setting}/{row.arm}", each) for each in args.only)
    ]
    if not groups:
        parser.error(f"{args.study}: no finished run of SETTING/ARM like {' or '.join(args.only)}")
    if len(seen := {each for group in groups for each in group.pop("compared")}) > 1:
        parser.error(f"{args.study}: exported on {listed(sorted(seen))}: remove every {ARTEFACT}")
    found = {"rounded": ARTEFACT, "compared": listed(sorted(seen)), "groups": groups}
    file = args.study / "analysis" / "int8.json"
    file.parent.mkdir(exist_ok=True)
    write_whole(file, json.dumps(found, indent=1) + "\n")
    print(f"\n{table_of(found)}\n\n{file}")


def _group(study: Path, row: StoredRow) -> dict[str, Any]:
    """Return an arm's runs, the predictions that change, and the metric in float and in int8."""
    arm = study / slug(row.setting) / slug(row.arm)
    found = [_exported(arm / f"seed_{seed}") for seed in row.runs]
    print(f"{label(row.setting, row.arm)}: {counted(len(found), 'student')}", flush=True)
    compared = {f"{each['images']:,} test images in {each['runtime']}" for each in found}
    name = next(iter(found[0]["metrics"]["compact"]))
    floats, rounded = ([each["metrics"][w][name] for each in found] for w in ("compact", "export"))
    return {
        "label": row.arm,
        "setting": row.setting,
        "compared": compared,
        "runs": [str(arm / f"seed_{seed}") for seed in row.runs],
        "changed": [each["predictions_changed"] for each in found],
        "float": floats,
        "int8": rounded,
    }


def _exported(run: Path) -> Mapping[str, Any]:
    """Return the artefact's row in the run's certificate.json, exported now if it has none."""
    for row in read_certificate(run / CERTIFICATE)["exports"]:
        if row["file"] == ARTEFACT and (run / ARTEFACT).is_file():
            return row
    return export(run, "onnx", int8=True, images=EVERY, max_loss=EVERY).row


if __name__ == "__main__":
    main()
