"""YAML without its surprises: plain data, and the line of every value.

Scalars are those of YAML 1.2's core schema, in lower case and decimal: true, false, null, `~`,
`1e-3`, `.inf`, `.nan`; anything else is a string, and what is quoted always is. Duplicate keys,
anchors, aliases, merge keys, tags and several documents are refused, and what is too large.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from kdx.recipe.errors import KeyPath, Report
from kdx.recipe.paths import RECIPE
from kdx.recipe.wording import show
from kdx.util.words import of_windows

LARGEST = 2**16
"""Characters in a recipe, which is about twenty lines: they are read in a fraction of a second."""
DEEPEST = 32  # mappings and lists, in one another
_WORDS = {"true": True, "false": False, "null": None}  # also True and TRUE: YAML 1.2, section 10.3
_CONSTANTS: dict[str, Any] = {
    form: value for word, value in _WORDS.items() for form in (word, word.title(), word.upper())
} | {"~": None, "": None}
_INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL = re.compile(r"([-+]?)\.(inf|nan)")
_DIGITS = 300
_MOST = 5000  # values: each of them may be a problem, or a part of the run
WRITTEN_OUT = 4  # times as large may be the recipe of a run, which has its defaults


class _Unreadable(Exception):
    """A problem after which the rest of the text cannot be read; a message and its event."""


def read_mapping(path: Path, report: Report, rule: str) -> dict[str, Any]:
    """Return the top level of the YAML file; raise RecipeError if it cannot be read at all.

    `rule` says what the file should be. Else as `parse`.
    """
    times = WRITTEN_OUT if path.name == RECIPE else 1
    most = times * LARGEST
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ValueError("it is a pipe or a device, not a file")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:
        found = of_windows(str(path)) or getattr(error, "strerror", error)
        instead = f": name its {path / 'recipe.yaml'}" if (path / "recipe.yaml").is_file() else ""
        if isinstance(error, FileNotFoundError):
            beside = [each.stem for each in path.parent.glob(f"*{path.suffix}")]
            near = get_close_matches(path.stem, beside, n=1, cutoff=0.8)
            instead = f". Did you mean {near[0] + path.suffix!r}?" if near else ""
        report.fail(f"cannot be read: {found}{instead}")
    if len(content) > most:
        report.fail(f"larger than {most // 1024} kB: a recipe is about twenty lines")
    try:
        data = parse(content.decode("utf-8-sig"), report, times=times)
    except UnicodeDecodeError as error:
        report.fail("not UTF-8", line=content.count(b"\n", 0, error.start) + 1)
    if not isinstance(data, dict):
        found = "the file is empty" if data is None else f"the file contains {show(data)}"
        report.fail(f"{found}: {rule}")
    return data


def parse(
    text: str,
    report: Report,
    *,
    path: KeyPath = (),
    origin: str | None = None,
    times: int = 1,
) -> Any:
    """Return the data in `text`, whose place in the recipe is `path`; None if it is empty.

    It may have `times` as many values as a recipe of a user's. `report` gets the problems, and
    where each value is: its line, or `origin` if that is given.
    """
    try:
        return _Reader(text, report, origin, _MOST * times).document(path)
    except _Unreadable as problem:
        message, line = problem.args[0], _line(problem.args[1])
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not YAML: character {chr(error.character)!r} is not allowed"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        message = f"not YAML: {error.problem or error.context}"
    except (ValueError, OverflowError) as error:  # escapes such as "\UFFFFFFFF"
        line, message = 1, f"not YAML: {error}"
    report.add(path, message, origin=origin or line)
    return None


def scalar(text: str) -> Any:
    """Return what an unquoted scalar means: a bool, None, an int, a float, or the text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text) and len(text) <= _DIGITS:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float("".join(special.groups()))
    return text


class _Reader:
    """Builds data from the parser's events, which, unlike its nodes, take no recursion."""

    def __init__(self, text: str, report: Report, origin: str | None, most: int) -> None:
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self._report, self._origin, self._most, self._values = report, origin, most, 0

    def document(self, path: KeyPath) -> Any:
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        data = self._value(path, next(self._events))
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _Unreadable("a second YAML document: a recipe is one", after)
        return data

    def _value(self, path: KeyPath, event: yaml.Event, key: yaml.Event | None = None) -> Any:
        """Return what begins with `event`; its place is that of its `key`, if it has one."""
        self._values += 1
        if len(path) > DEEPEST:
            raise _Unreadable(f"nested deeper than {DEEPEST} levels", event)
        if self._values > self._most:
            raise _Unreadable(
                f"more than {self._most:,} values: a recipe is about twenty lines", event
            )
        self._report.locate(path, self._origin or _line(key or event))
        self._refuse_extras(path, event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            data: list[Any] = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                data.append(self._value((*path, len(data)), event))
            return data
        # An alias has been reported.
        return _read(event) if isinstance(event, yaml.ScalarEvent) else None

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(path, event)
            if key in data:
                self._refuse((*path, key), f"duplicate key, first on line {lines[key]}", event)
            lines.setdefault(key, _line(event))
            data[key] = self._value((*path, key), next(self._events), event)
        return data

    def _key(self, path: KeyPath, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _Unreadable("a key must be a string, not a list, mapping or alias", event)
        self._refuse_extras((*path, event.value), event)
        key = _read(event)
        if event.value == "<<" and event.implicit[0]:
            self._refuse((*path, key), "merge keys are not supported: write the keys out", event)
        elif not isinstance(key, str):
            message = f"key {show(key)} is not a string: put it in quotes"
            self._refuse((*path, str(key)), message, event)
        return str(key)

    def _refuse_extras(self, path: KeyPath, event: yaml.Event) -> None:
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            self._refuse(path, f"aliases (*{anchor}) are not supported: write the value out", event)
        elif anchor:
            self._refuse(path, f"anchors (&{anchor}) are not supported: write the value out", event)
        elif tag:
            self._refuse(path, f"tags ({tag}) are not supported: leave it out", event)

    def _refuse(self, path: KeyPath, message: str, event: yaml.Event) -> None:
        self._report.add(path, message, origin=self._origin or _line(event))


def _read(event: yaml.ScalarEvent) -> Any:
    if re.search(r"[\x00\ud800-\udfff]", event.value):
        raise _Unreadable(f"invalid characters: {show(event.value)}", event)
    return scalar(event.value) if event.implicit[0] else event.value


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1
