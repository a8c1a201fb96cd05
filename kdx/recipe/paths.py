"""The paths of a recipe: what they are relative to, and where a run may write."""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdx.recipe.wording import show
from kdx.util.words import check_text

RECIPE = "recipe.yaml"  # of a run, in its directory
REPLACED = ".replaced"  # what the name of a run that stands aside ends with
_RUNS = "runs"
_LONGEST = 240  # characters of a name, which others are made of
_TEACHERS = 8  # recipes that lead to one another
_TRACES = ("checkpoints/epoch_*/manifest.json", "certificate.json")


def is_run(directory: Path) -> bool:
    """Return whether a directory is that of a run: its recipe.yaml with what only runs write.

    From the moment that a run claims it, by the lock beside it.
    """
    directory = Path(os.path.realpath(directory))
    if not (directory / RECIPE).is_file():
        return False
    lock = directory.with_name(f".{directory.name}.lock")
    return lock.exists() or any(any(directory.glob(trace)) for trace in _TRACES)


@dataclass(frozen=True)
class Locations:
    """Where a recipe was read (`file`), and the folder that all runs are written below.

    `plugins` are the modules that its names may also come from. `before` are the recipes, as
    absolute paths, that led to this one, each the teacher's of the one before it. `own` is the
    run directory that the file lies in, unless an override names another run; `at` is the run
    directory, None for the one that the recipe's name means.
    """

    file: Path = field(compare=False)
    output_root: Path
    plugins: tuple[str, ...] = ()
    before: tuple[Path, ...] = field(default=(), compare=False)
    own: Path | None = field(default=None, compare=False)
    at: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Expand `~`; raise ValueError for paths that cannot be written as text."""
        object.__setattr__(self, "output_root", self.output_root.expanduser())
        for path in (self.file, self.output_root):
            check_text(os.path.abspath(path))

    def beside(self, file: Path) -> "Locations":
        """Return the locations of another recipe, that this one led to."""
        return replace(self, file=file, before=(*self.before, self.file.resolve()))

    def name(self, given: str) -> str:
        """Return the name of the run, by default <folder>/<file> of the recipe.

        Raises ValueError for a name that could lead out of the output root.
        """
        file = Path(os.path.abspath(self.file))
        name = given or "/".join(filter(None, (file.parent.name, file.stem)))
        parts = name.split("/")
        if any(not re.fullmatch(r"[A-Za-z0-9._-]+", p) or p in (".", "..") for p in parts):
            rule = "a relative path of letters, digits, '.', '_' and '-', without '..'"
            raise ValueError(f"{show(name)} is not {rule}")
        if any(part.endswith(REPLACED) for part in parts):
            raise ValueError(f"{show(name)} ends with {REPLACED!r}, which marks replaced runs")
        if len(name) > _LONGEST:
            raise ValueError(f"{show(name)} has {len(name):,} characters: at most {_LONGEST}")
        place = self.output_root
        for part in parts:
            place /= part
            if place.is_symlink():
                raise ValueError(f"{show(name)} goes through a symbolic link, {place}: remove it")
        return name

    def found(self) -> "Locations":
        """Return these locations with the run that the file lies in as `own`."""
        folder = Path(os.path.realpath(self.file.parent))
        return replace(self, own=folder if self.file.name == RECIPE and is_run(folder) else None)

    def holds(self, given: str) -> bool:
        """Whether a path that `output` takes is below the output root, links followed."""
        root = os.path.realpath(self.output_root)
        return Path(os.path.realpath(self.output(given))).is_relative_to(root)

    def output(self, given: str) -> str:
        """Return the path of what runs leave: a first part `runs` means the output root."""
        if not given.startswith(f"{_RUNS}/"):
            return given
        path = self.output_root / given.removeprefix(f"{_RUNS}/").lstrip("/")
        # Such a path must mean the same when the resolved recipe is read again.
        again = self.output_root != Path(_RUNS) and path.parts[:1] == (_RUNS,)
        return str(path.absolute() if again else path)

    def portable(self, given: str) -> str:
        """Return a path that `output` has returned, so that it means the same from elsewhere."""
        path, root = Path(os.path.abspath(given)), os.path.abspath(self.output_root)
        return f"{_RUNS}/{path.relative_to(root)}" if path.is_relative_to(root) else str(path)

    def recipe(self, given: Path) -> Path:
        """Return the absolute path of another recipe, which is relative to this one's folder.

        Raises ValueError if there is no such file, and for recipes that are circular.
        """
        path, name = Path(os.path.realpath(self.file.parent / given)), show(str(given))
        if not os.path.isfile(path):
            raise ValueError(f"{name} does not exist: looked for {path}")
        if len(self.before) >= _TEACHERS:
            raise ValueError(f"{name}: a chain of more than {_TEACHERS} teacher recipes")
        if path == self.file.resolve():
            raise ValueError(f"{name} is this recipe itself")
        if path in self.before:
            circle = (*self.before[self.before.index(path) :], self.file.resolve(), path)
            names = " -> ".join(each.name for each in circle)
            raise ValueError(f"{name}: circular teacher recipes: {names}")
        return path


def refuse_links(directory: Path) -> None:
    """Raise ValueError if a directory to write in is a link, or contains one at any depth."""
    for place in (directory, *directory.rglob("*")):
        if place.is_symlink():
            link = f"{place} is a symbolic link to {os.path.realpath(place)}"
            raise ValueError(f"{link}: runs do not write through it")
