"""The main job on the embedded digits: what `make demo` runs."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from kdx.commands.shared import guarded
from kdx.recipe import load

DIGITS = Path(__file__).resolve().parent.parent / "configs" / "digits"


def main() -> None:
    """Train teacher, compact student and distilled ExpandNet; print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-root", default="runs/demo", metavar="DIR")
    args = parser.parse_args()
    alone = load(DIGITS / "smallnet3.yaml", output_root=args.output_root)
    distilled = load(DIGITS / "resnet18_to_smallnet3_cl_fc_kd.yaml", output_root=args.output_root)
    teacher = load(DIGITS / "teacher_resnet18.yaml", output_root=args.output_root)
    console = Console()
    with console.status("importing torch"):
        from kdx.run.run import ensure_teacher, run
        from kdx.run.summary import comparison, read_summary
    ensure_teacher(distilled, console)
    for recipe in (alone, distilled):
        run(recipe, console, overwrite=True)
    rows = [
        ("teacher ResNet-18", read_summary(teacher.run_dir)),
        ("SmallNet alone", read_summary(alone.run_dir)),
        ("ExpandNet-CL+FC + KD", read_summary(distilled.run_dir)),
    ]
    console.print(
        comparison(rows, "scikit-learn's digits: the compact network, alone and distilled")
    )
    student = distilled.run_dir / "student.safetensors"
    console.print(f"the compact student: [bold]{student}[/bold]", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(guarded(main))
