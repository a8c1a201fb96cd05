"""The tables of a GPU in one command: operations, expansion, a live teacher, a whole recipe.

    python -m benchmarks.gpu --json gpu.json

Without CUDA the same tables are measured on the CPU, smaller.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from benchmarks import expand_cost, operations, pipeline, teacher
from kdx.commands.shared import guarded

__all__ = ["main"]

TABLES: Mapping[str, tuple[Callable[[list[str]], None], list[str]]] = {
    "operations": (operations.main, []),
    "float32": (expand_cost.main, ["--only", "SmallNet*", "--rounds", "5"]),
    "bf16": (expand_cost.main, ["--only", "SmallNet*", "--rounds", "5", "--bf16"]),
    "large": (expand_cost.main, ["--only", "[MU]*", "--rounds", "3", "--no-unfolded"]),
    "teacher": (teacher.main, ["--rounds", "5", "--pixels", "224"]),
    "pipeline": (pipeline.main, ["--rounds", "5"]),
}
"""What is measured, by the name of its table: a benchmark and its arguments."""

ON_CPU = {
    "float32": ["--only", "SmallNet-3 CL", "--rounds", "1"],
    "bf16": ["--only", "SmallNet-3 CL", "--rounds", "1", "--bf16"],
    "large": ["--only", "MobileNet CL", "--rounds", "1", "--no-unfolded"],
    "teacher": ["--only", "resnet18", "--rounds", "1", "--pixels", "32"],
    "pipeline": ["--rounds", "1", "--limit", "64"],
}


def main(arguments: list[str] | None = None) -> None:
    """Measure all tables, or those named; write them to one JSON file with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", choices=[[], *TABLES], help="default: all")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    args = parser.parse_args(arguments)
    found: dict[str, object] = {}
    tables: list[str] = args.tables or list(TABLES)
    with tempfile.TemporaryDirectory() as place:
        for name in tables:
            measure, asked = TABLES[name]
            if not torch.cuda.is_available():
                asked = ON_CPU.get(name, asked)
            path = Path(place) / f"{name}.json"
            measure([*asked, "--json", str(path)])
            found[name] = json.loads(path.read_text(encoding="utf-8"))
            if args.json:  # after each table: a later one may fail
                args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(guarded(main))
