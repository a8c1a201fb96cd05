"""Write report.html: one file that shows a run, several runs, or a study, in any browser.

kdx report RUN                    again, after an export for example
kdx report RUN RUN ... [-o FILE]  several runs in one page
kdx report STUDY                  the directory of a study, such as runs/studies/digits/demo

A finished run has its page already.
"""

import argparse
from pathlib import Path

from kdx.commands.shared import terminal
from kdx.util.printing import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx report`."""
    add = parser.add_argument
    add("places", nargs="+", type=Path, metavar="RUN", help="a run directory, or a study's")
    where = "the page to write (default: report.html there, comparison.html above several runs)"
    add("-o", "--output", type=Path, metavar="FILE", help=where)


def run(args: argparse.Namespace) -> None:
    """Write the page and print where; errors as `write_report_page`."""
    from kdx.report import write_report_page

    say(terminal(), f"report   {write_report_page(args.places, args.output)}")
