"""Text on a console as it is: names and paths may look like rich's markup, emoji or control codes.

Nothing else in kdx prints text on a console.
"""

import io
import sys

from rich.console import Console
from rich.text import Text

from kdx.util.words import printable


def say(console: Console, *lines: str, style: str = "") -> None:
    """Print lines without markup, colours or line breaks of the terminal's width.

    What does not print, or not in the encoding of the console, is escaped.
    """
    console.print(plain(console, "\n".join(lines), style), highlight=False, soft_wrap=True)


def rule(console: Console, title: str) -> None:
    """Print a horizontal line with a title in it."""
    console.rule(plain(console, title, "bold"))


def plain(console: Console, text: str, style: str = "") -> Text:
    """Return a text for `console`, for what is made of several."""
    encoded = printable(text).encode(console.encoding, "backslashreplace")
    return Text(encoded.decode(console.encoding), style)


def escape_unencodable() -> None:
    """Let the standard streams escape what their encoding lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
