"""Look into finished runs: training curves, gradient confusion, loss landscapes.

python tools/analyze.py curves    RUN [RUN ...]
python tools/analyze.py confusion RUN [RUN ...] [--pairs 100] [--every 1] [--of trained|folded]
python tools/analyze.py landscape RUN [RUN ...] [--dims 1|2] [--points 25] [--images 1000]

RUN is the directory of a run, or one that holds some, such as a study's.
"""

import argparse
import sys
from pathlib import Path

from kdx.commands.shared import add_common, guarded, terminal
from kdx.recipe import allow


def main() -> None:
    """Parse, find the runs, analyse them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsers = parser.add_subparsers(dest="what", required=True)
    added = {name: parsers.add_parser(name) for name in ("curves", "confusion", "landscape")}
    for each in added.values():
        each.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a finished run")
        each.add_argument("-o", "--output", type=Path, metavar="DIR", help="for the figures")
        add_common(each)
    add = added["confusion"].add_argument
    add("--pairs", type=int, default=100, help="of mini-batches, an epoch (100)")
    add("--every", type=int, default=1, metavar="N", help="look at every Nth epoch (1)")
    add("--of", default="trained", choices=("trained", "folded"), help="whose parameters (trained)")
    add = added["landscape"].add_argument
    add("--dims", type=int, default=1, choices=(1, 2), help="a curve or a surface (1)")
    add("--points", type=int, default=25, help="along each direction (25)")
    add("--span", type=float, default=1.0, help="how far to go, of the filters' norms (1.0)")
    add("--images", type=int, default=1000, help="of the training images (1000)")
    add("--batchnorm", default="fixed", choices=("fixed", "refit"), help="its statistics (fixed)")
    add("--seed", type=int, default=0, help="of directions and images (0)")
    options = vars(parser.parse_args())
    what, places, output = (options.pop(name) for name in ("what", "runs", "output"))
    plugins, output_root = options.pop("plugins"), options.pop("output_root")
    allow(plugins)
    from kdx_lab import analysis

    analysis.analyze(
        what, places, terminal(),
        output=output, plugins=plugins, output_root=output_root, **options)  # fmt: skip


if __name__ == "__main__":
    sys.exit(guarded(main))
