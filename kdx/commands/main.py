"""The command `kdx`: find the verb's module, parse its arguments, run it.

A verb's module has a docstring, its help text; `add_arguments(parser)`; and `run(args)`, which
raises the errors that `guarded` turns into exit codes. It imports torch and other slow packages
only in `run`, so that help is printed at once.
"""

import argparse
import difflib
import importlib
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version

from kdx.commands.shared import REFUSED, guarded
from kdx.util.garbage import collected_seldom
from kdx.util.printing import escape_unencodable
from kdx.util.words import check_text

VERBS = {
    "distill": ("kdx.commands.distill", "train a compact network from a recipe"),
    "evaluate": ("kdx.commands.evaluate", "evaluate a compact network on a data set"),
    "compress": ("kdx.commands.compress", "turn a checkpoint into the compact network"),
    "export": ("kdx.commands.export", "write ONNX, ExecuTorch and others, checked where they run"),
    "bench": ("kdx.commands.bench", "measure latency of teacher, student and exports"),
    "dry-run": ("kdx.commands.dry_run", "build everything, print the plan and the cost"),
    "report": ("kdx_lab.commands.report", "write the HTML page of a run, several runs or a study"),
    "memo": ("kdx.commands.memo", "store the teacher's outputs before training"),
    "recipes": ("kdx.commands.recipes", "list the shipped recipes and studies, or copy one"),
    "list": ("kdx.commands.list", "list losses, networks, data sets, ... and their arguments"),
    "schema": ("kdx.commands.schema", "write the JSON schema of recipes for editors"),
    "anchors": ("kdx.commands.anchors", "find anchors for the boxes of a data set"),
    "study": ("kdx_lab.commands.study", "run a study: recipes in variants and seeds"),
    "analyze": ("kdx_lab.commands.analyze", "analyze finished runs: curves, gradients, landscapes"),
    "complexity": ("kdx_lab.commands.complexity", "count parameters and MACs, measure speed"),
    "scenes": ("kdx_lab.commands.scenes", "make images for detection and segmentation"),
}
"""Each verb, its module (those of kdx_lab as strings: kdx does not import it), a line of help."""

_BATCHES = ("distill", "memo", "dry-run", "study")  # verbs whose batches are the recipe's

_DOTTED = re.compile(r"^--(\w+)\.(?=\w+=)")
"""`--slurm.time=60` is the option --slurm with time=60."""

_USAGE = """\
usage: kdx COMMAND [ARGUMENT ...]

Train a compact network by knowledge distillation, from one YAML recipe.

commands:"""
_MORE = "\n`kdx COMMAND --help` lists the arguments of a command."


def main(argv: Sequence[str] | None = None) -> int:
    """Run `kdx VERB ...` and return its exit code, which is one of those of `guarded`.

    Like argparse, exits with code 2 for wrong arguments and 0 after printing help.
    """
    escape_unencodable()
    verb, *arguments = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if verb in ("-h", "--help", "help"):
        lines = [f"  {name:<11} {line}" for name, (_, line) in VERBS.items()]
        print(_USAGE, *lines, _MORE, sep="\n")
    elif verb == "--version":
        print(f"kdx {version('kdx')}")
    elif verb not in VERBS:
        nearest = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        print(f"kdx: unknown command {verb!r}.{hint} `kdx --help` lists them all", file=sys.stderr)
        return REFUSED
    else:
        with collected_seldom():
            return _run(verb, arguments)
    return 0


def _run(verb: str, arguments: Sequence[str]) -> int:
    module = importlib.import_module(VERBS[verb][0])
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(f"kdx {verb}", description=module.__doc__, formatter_class=raw)
    module.add_arguments(parser)
    # Overrides may stand between options, which argparse does not allow together with subcommands.
    parse = parser.parse_args if parser._subparsers else parser.parse_intermixed_args
    args = parse([_DOTTED.sub(r"--\1=", each) for each in arguments])

    def run() -> None:
        for each in arguments:
            check_text(each)
        module.run(args)

    return guarded(run, resumes=verb == "distill", has_batches=verb in _BATCHES)
