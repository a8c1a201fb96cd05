"""Names of loss terms and stages: those given, and defaults that do not clash with them."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

__all__ = ["name_stages", "name_terms"]

Entry = TypeVar("Entry", bound=Any)


def name_terms(terms: list[Entry]) -> list[Entry]:
    """Return the loss terms with a name each: by default the last part of `use`, lower-cased.

    Raises ValueError where two were given the same name.
    """
    defaults = [re.split("[.:]", term.component.use)[-1].lower() for term in terms]
    return _named(terms, defaults, "terms")


def name_stages(stages: list[Entry]) -> list[Entry]:
    """Return the stages with a name each: by default the phase, else its number ("stage2").

    A single stage is "train". Raises ValueError where two were given the same name.
    """
    plain = ["train"] if len(stages) == 1 else [f"stage{n}" for n, _ in enumerate(stages, start=1)]
    defaults = [stage.phase or name for stage, name in zip(stages, plain, strict=True)]
    return _named(stages, defaults, "stages")


def _named(entries: list[Entry], defaults: Sequence[str], what: str) -> list[Entry]:
    taken: set[str] = set()
    for name in filter(None, (entry.name for entry in entries)):
        if name in taken:
            raise ValueError(f"two {what} are named {name!r}")
        taken.add(name)
    names = []
    for entry, default in zip(entries, defaults, strict=True):
        names.append(entry.name or _free(default, taken))
        taken.add(names[-1])
    return [e.model_copy(update={"name": name}) for e, name in zip(entries, names, strict=True)]


def _free(name: str, taken: Iterable[str]) -> str:
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    return free
