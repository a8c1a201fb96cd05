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

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx report`."""
    add = parser.add_argument
    add("places", nargs="+", type=Path, metavar="RUN", help="a run directory, or a study's")
    where = "the page to write (default: report.html there, comparison.html above several runs)"
    add("-o", "--output", type=Path, metavar="FILE", help=where)


def run(args: argparse.Namespace) -> None:
    """Write the page and print where; ValueError for a study beside others, else as the writers."""
    from kdx.report import FILE, write_page, write_report_page
    from kdx_lab.study.page import is_study, study_page

    studies = [place for place in args.places if is_study(place)]
    if studies and len(args.places) > 1:
        raise ValueError(f"{studies[0]}: a study cannot be compared: give runs, or one study")
    if studies:
        page = write_page(study_page(studies[0]), args.output or studies[0] / FILE)
    else:
        page = write_report_page(args.places, args.output)
    say(terminal(), f"report   {page}")
