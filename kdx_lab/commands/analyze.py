"""Analyze finished runs: training curves, gradient confusion, loss landscapes.

kdx analyze curves    RUN [RUN ...]
kdx analyze confusion RUN [RUN ...] [--pairs 100] [--every 1] [--of trained|folded]
kdx analyze landscape RUN [RUN ...] [--dims 1|2] [--points 25] [--images 1000]

RUN is a run directory, or a directory that contains runs, such as a study's.
"""

import argparse
from pathlib import Path

from kdx.commands.shared import add_common, terminal
from kdx.recipe import allow

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each analysis."""
    parsers = parser.add_subparsers(dest="what", required=True)
    added = {name: parsers.add_parser(name) for name in ("curves", "confusion", "landscape")}
    for each in added.values():
        each.add_argument("places", nargs="+", type=Path, metavar="RUN", help="a finished run")
        each.add_argument("-o", "--output", type=Path, metavar="DIR", help="where figures go")
        add_common(each)
    add = added["confusion"].add_argument
    add("--pairs", type=int, default=100, help="pairs of mini-batches per epoch (100)")
    add("--every", type=int, default=1, metavar="N", help="measure every Nth epoch (1)")
    add("--of", default="trained", choices=("trained", "folded"), help="whose parameters (trained)")
    add = added["landscape"].add_argument
    add("--dims", type=int, default=1, choices=(1, 2), help="a curve or a surface (1)")
    add("--points", type=int, default=25, help="points per direction (25)")
    add("--span", type=float, default=1.0, help="largest step, in norms of the filters (1.0)")
    add("--images", type=int, default=1000, help="number of training images (1000)")
    add("--batchnorm", default="fixed", choices=("fixed", "refit"), help="statistics (fixed)")
    add("--seed", type=int, default=0, help="seed of the directions and images (0)")


def run(args: argparse.Namespace) -> None:
    """Find the runs and analyze them; errors as `analyze`."""
    allow(args.plugins)
    from kdx_lab.analysis import analyze

    analyze(console=terminal(), **vars(args))
