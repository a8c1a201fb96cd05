"""What is wrong with a recipe, and where."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NoReturn, TypeVar

from kdx.recipe.wording import plain, show
from kdx.util.words import counted

_SHOWN = 20  # problems in the text of an error

T = TypeVar("T")
R = TypeVar("R")
KeyPath = tuple[str | int, ...]
"""The way from the top of a recipe to a value: ("losses", 0, "use")."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    `place` is what the user has to edit ("configs/x.yaml:14", "override 'epochs=abc'"), `where`
    the key in the recipe ("losses[0].use", empty for the file as a whole).
    """

    place: str
    where: str
    message: str

    def __str__(self) -> str:
        """Return the problem on one line, which a terminal can show."""
        parts = (self.place, self.where, self.message)
        return ": ".join(plain(part) for part in parts if part)


class RecipeError(ValueError):
    """Everything that is wrong with a recipe: `problems`, and as text a line for each.

    The text has the first 20 of them.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in problems[:_SHOWN]]
        if more := len(problems) - len(lines):
            lines.append(f"... and {counted(more, 'more problem')}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type, tuple[Sequence[Problem]]]:
        """Pickle by the problems: a pool sends errors back so."""
        return type(self), (self.problems,)


def each_of(make: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return what `make` returns for each item; if it raises, the problems of all, each once.

    A ValueError or an OSError is a problem. One alone is raised as it is, several as a RecipeError.
    """
    made: list[R] = []
    errors: list[ValueError | OSError] = []
    for item in items:
        try:
            made.append(make(item))
        except (ValueError, OSError) as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        problems = dict.fromkeys(chain.from_iterable(map(_problems, errors)))
        raise RecipeError(list(problems)) from ExceptionGroup("several problems", errors)
    return made


def _problems(error: ValueError | OSError) -> Sequence[Problem]:
    return error.problems if isinstance(error, RecipeError) else [Problem("", "", str(error))]


class Report:
    """Collects problems; knows on which line, or by which override, every value was set."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._origins: dict[KeyPath, int | str] = {}
        self._problems: dict[KeyPath, tuple[float, Problem]] = {}

    def locate(self, path: KeyPath, origin: int | str) -> None:
        """Remember where the value at `path` was set: a line of the file, or an override."""
        self._origins[path] = origin

    def forget(self, path: KeyPath) -> None:
        """Forget where the values at and below `path` were set: it is about to be replaced."""
        self._origins = {p: o for p, o in self._origins.items() if p[: len(path)] != path}

    def origins(self, path: KeyPath) -> dict[KeyPath, int | str]:
        """Return where the values at and below `path` were set, by their paths."""
        return {p: o for p, o in self._origins.items() if p[: len(path)] == path}

    def origin(self, path: KeyPath) -> int | str:
        """Return the origin of the value at `path`, or of what contains it, by `locate`; else 0."""
        prefixes = (path[:length] for length in range(len(path), -1, -1))
        return next((self._origins[p] for p in prefixes if p in self._origins), 0)

    def overridden(self, path: KeyPath) -> bool:
        """Return whether an override set the value at `path`."""
        return isinstance(self.origin(path), str)

    def place(self, path: KeyPath, origin: int | str | None = None) -> str:
        """Return where to edit the value at `path`; for a missing value, where it belongs."""
        origin = self.origin(path) if origin is None else origin
        if isinstance(origin, str):
            return f"override {show(origin)}"
        return f"{self.file}:{origin}" if origin else self.file

    def add(self, path: KeyPath, message: str, *, origin: int | str | None = None) -> None:
        """Report a problem; only the first one at each path counts."""
        origin = self.origin(path) if origin is None else origin
        line = origin if isinstance(origin, int) else float("inf")
        problem = Problem(self.place(path, origin), dotted(path), message)
        self._problems.setdefault(path, (line, problem))

    def fail(self, message: str, *, line: int = 0) -> NoReturn:
        """Raise RecipeError now, with `message` unless the whole file has a problem already."""
        self.add((), message, origin=line)
        self.raise_any()
        raise AssertionError("a problem was just added")

    @property
    def problems(self) -> list[Problem]:
        """All problems in the order of the file."""
        return [each for _, each in sorted(self._problems.values(), key=lambda entry: entry[0])]

    def raise_any(self) -> None:
        """Raise RecipeError with all problems, if there are any."""
        if self._problems:
            raise RecipeError(self.problems)


def dotted(path: KeyPath) -> str:
    """Return `path` as people write it: losses[0].use. Long keys are shortened."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if re.fullmatch(r"[\w-]{1,80}", part) else show(part)
            text += f".{shown}" if text else shown
    return text
