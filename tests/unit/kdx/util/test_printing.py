"""Text on a console is printed as it is."""

import ast
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from kdx.util.printing import rule, say

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("runs/[v2]/x", "runs/[v2]/x"),
        ("[/v2] [bold]x[/bold] [link=http://x]y", "[/v2] [bold]x[/bold] [link=http://x]y"),
        (":smile: \\[a]", ":smile: \\[a]"),
        ("a\x1b[31mb\x07", "a\\x1b[31mb\\x07"),
        ("caf\udce9", "caf\\udce9"),
    ],
)
def test_markup_emoji_and_control_codes_stay_text(text, printed):
    console = Console(file=io.StringIO(), width=20)
    say(console, text, "", f"{text}.")
    assert console.file.getvalue() == f"{printed}\n\n{printed}.\n"
    console = Console(file=io.StringIO(), width=200)
    rule(console, text)
    assert f"─ {printed} ─" in console.file.getvalue()


@pytest.mark.parametrize(
    ("encoding", "printed"), [("ascii", r"\xb1 \u0394 \xe9"), ("cp1252", r"± \u0394 é")]
)
def test_what_the_encoding_lacks_is_escaped(encoding, printed):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    console = Console(file=file)
    say(console, "± Δ é")
    rule(console, "Δ")
    assert file.buffer.getvalue().decode(encoding).startswith(f"{printed}\n")


def test_nothing_else_prints_strings_on_a_console():
    """A console is given renderables only, whose cells are Text: see `kdx.util.printing`."""
    found = []
    for package in ("kdx", "kdx_lab", "expand", "tools", "teachers"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name == "printing.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    text = ast.unparse(node)
                    if re.match(r"(self\.)?console\.(print|rule|log|out)\(", text) and not (
                        re.match(r"console\.print\((made|table|live_table|_table|Padding|\))", text)
                    ):
                        found.append(f"{path}:{node.lineno}: {text}")
    assert not found
