"""List the recipes and studies that come with kdx, or copy one to edit and run it.

kdx recipes
kdx recipes copy digits/resnet18_to_smallnet3_cl_fc_kd [DIRECTORY]

A copy brings along the recipes that it names, such as its teacher's, in the same folders.
"""

import argparse
import os
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.text import Text

from kdx.commands.shared import terminal
from kdx.recipe.errors import Report
from kdx.recipe.shipped import folder, shipped
from kdx.recipe.wording import unknown
from kdx.recipe.yaml_source import read_mapping
from kdx.util.files import write_whole
from kdx.util.printing import say

SCHEMAS = "schema"  # the folder of the JSON schemas, for editors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx recipes`."""
    add = parser.add_argument
    add("action", nargs="?", choices=["list", "copy"], default="list", help="default: list")
    add("name", nargs="?", metavar="NAME", help="what to copy, such as digits/smallnet3")
    add("to", nargs="?", type=Path, metavar="DIRECTORY", default=Path(), help="default: here")
    add("--overwrite", action="store_true", help="replace existing files")


def run(args: argparse.Namespace) -> None:
    """List, or copy and say how to run the copy. Raises ValueError for an unknown name."""
    console = terminal()
    if args.action == "list":
        for name, path in shipped().items():
            say(console, name, style="bold")
            console.print(Padding(Text(_summary(path)), (0, 0, 0, 4)))
        return
    if args.name is None:
        raise ValueError("NAME is missing: kdx recipes copy NAME; `kdx recipes` lists the names")
    copied = copy(args.name, args.to, overwrite=args.overwrite)
    say(console, *(f"wrote {path}" for path in copied))
    verb = "study" if copied[0].parts[len(args.to.parts)] == "studies" else "distill"
    say(console, f"run it: kdx {verb} {shlex.quote(str(copied[0]))}")


def copy(name: str, to: Path, *, overwrite: bool = False) -> list[Path]:
    """Copy a recipe or study, what it names, and the schema for editors; return the new files.

    The one of that name is first. Raises ValueError for an unknown name, FileExistsError for a
    file that exists with other content, unless it may be overwritten; then nothing is written.
    """
    files, name = shipped(), name.removesuffix(".yaml").removeprefix("configs/")
    if name not in files:
        raise ValueError(f"{name!r} is not a shipped recipe or study.{unknown(name, files)}")
    sources = list(dict.fromkeys(_with_named(files[name])))
    sources += sorted((folder() / SCHEMAS).glob("*.json"))
    targets = {source: to / source.relative_to(folder()) for source in sources}
    for source, target in targets.items():
        if not overwrite and target.exists() and target.read_bytes() != source.read_bytes():
            raise FileExistsError(f"{target} exists: copy elsewhere, or pass --overwrite")
    for source, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, source.read_bytes())
    return list(targets.values())


def _with_named(path: Path) -> Iterator[Path]:
    """Yield a file and those that it names as `recipe:`, at any depth."""
    yield path
    whole = read_mapping(path, Report(str(path)), "a recipe is a mapping")
    changed = path.parent / str(whole.get("recipe", path.name))  # by a study's dotted overrides
    waiting: list[Any] = [whole]
    for section in waiting:
        for key, value in section.items() if isinstance(section, dict) else ():
            if key.rpartition(".")[2] == "recipe" and isinstance(value, str):
                beside = changed if "." in key else path
                yield from _with_named(Path(os.path.normpath(beside.parent / value)))
            waiting.append(value)


def _summary(path: Path) -> str:
    """Return the first sentence of the comment at the top of a file, without the editors' line."""
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if "$schema=" not in line
    ]
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda x: x.startswith("#"), lines))
    return re.split(r"(?<=\.) (?=[A-Z'])", comment)[0]
