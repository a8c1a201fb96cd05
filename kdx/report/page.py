"""Writing a page: of a run, or of several."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, Template
from markupsafe import Markup

from kdx.report.blocks import Page
from kdx.report.compare_page import compare_page
from kdx.report.files import read_run
from kdx.report.run_page import run_page
from kdx.report.summary import Summary
from kdx.util.files import write_whole
from kdx.util.words import printable

FILE = "report.html"
COMPARISON = "comparison.html"


def write_report_page(
    places: Sequence[Path],
    output: Path | None = None,
    *,
    summary: Summary | None = None,
) -> Path:
    """Write the page of a run directory, or of several to compare.

    `output` is by default report.html in the directory, or comparison.html in the innermost one
    that contains all runs. `summary` is that of a single run which has not written its own yet.
    Returns the file. ValueError for other directories, damaged files and outputs not called *.html.
    """
    if len(places) == 1:
        page, default = run_page(read_run(places[0], summary=summary)), places[0] / FILE
    else:
        page = compare_page([read_run(place) for place in places])
        default = Path(os.path.commonpath([place.resolve() for place in places])) / COMPARISON
    return write_page(page, output or default)


def write_page(page: Page, path: Path) -> Path:
    """Write a page; return its file. ValueError if it is not called *.html."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{path}: the page is an HTML file: call it something.html")
    write_whole(path, render(page))
    return path


def render(page: Page) -> str:
    """Return a page as HTML; every text in it is escaped."""
    return _template().render(page=page)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("kdx.report"),
        autoescape=True,
        trim_blocks=True,
        finalize=_plain,
    )
    return environment.get_template("page.html")


def _plain(value: Any) -> Any:
    """Return a text with escapes for what does not print, which HTML cannot hold."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
