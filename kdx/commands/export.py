"""Export the compact student of a run, a weight file or a checkpoint, and check the artefact.

It is run in its own runtime on test images, and kept only if its outputs are those of the
compact student.

kdx export runs/<name> --to onnx [key=value ...]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdx.commands.shared import add_common, positive
from kdx.exporting import FORMATS
from kdx.util.words import counted, in_bytes, measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx export`."""
    add = parser.add_argument
    add("student", type=Path, metavar="STUDENT", help="a run directory, weight file or checkpoint")
    add("overrides", nargs="*", metavar="key=value", help="e.g. data.root=/images")
    add("--to", required=True, choices=FORMATS, help="the format")
    add("-o", "--output", type=Path, help="a file or a folder (default: exports/ in the run)")
    add("--batch", type=_batch, metavar="dynamic|N", help="the graph's batch (default: dynamic)")
    add("--preprocess", action="store_true", help="the graph takes pixels, uint8")
    add("--int8", action="store_true", help="quantised, calibrated on training images")
    add("--tolerance", type=_share, help="the largest error, of the largest logit (the recipe's)")
    add("--max-loss", type=_share, default=1.0, help="of int8: points of the metric (default: 1.0)")
    add("--images", type=positive, metavar="N", help="test images to compare (1,024, or all)")
    add("--threads", type=positive, default=1, metavar="N", help="of the runtime (default: 1)")
    add("--license", help="for timm's model card (default: unknown)")
    add("--push-to-hub", metavar="REPO", help="upload timm's folder to the Hugging Face Hub")
    add("--recipe", type=Path, help="the recipe (default: the recipe.yaml beside the student)")
    add("--key", help="where in a file of several state dicts it is, e.g. model_ema")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Export and print what was seen."""
    from kdx.exporting.export import export

    options = vars(args).copy()
    made = export(options.pop("student"), options.pop("to"), options.pop("output"), **options)
    print(described(made.path, made.row, made.numbers))
    for note in made.notes:
        print(f"  {note}")


def described(path: Path, row: dict[str, Any], numbers: Sequence[str]) -> str:
    """Return lines on an artefact: size, errors, metrics (not shares: `numbers`), latency."""
    metrics = row["metrics"]
    name = next(iter(metrics["compact"]))
    before, after = (measured(name, metrics[w][name], numbers) for w in ("compact", "export"))
    changed = f"; predictions changed: {row['predictions_changed']:,} of {row['predictions']:,}"
    lines = [
        f"{path}: {in_bytes(row['bytes'])}, {row['runtime']}",
        f"  differs from the compact student by {row['max_rel_error']:.1e} of the largest logit "
        f"({row['max_abs_error']:.1e} absolute) on {counted(row['images'], 'test image')}"
        f"{changed if row['predictions'] else ''}",
        f"  {name} {after}, the compact student's {before}",
        *(
            f"  batch {each['batch']}: {each['median_ms']:.3f} ms (p95 {each['p95_ms']:.3f}), "
            f"PyTorch {each['torch_median_ms']:.3f} ms (p95 {each['torch_p95_ms']:.3f}), "
            f"{counted(each['threads'], 'thread')}"
            for each in row["latency"]
        ),
    ]
    return "\n".join(lines)


def _batch(text: str) -> int | None:
    try:
        return None if text == "dynamic" else positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, and not 'dynamic'") from error


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value
