"""Names of loss terms and stages: those given, and defaults that do not clash with them."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

Entry = TypeVar("Entry", bound=Any)


def name_terms(terms: list[Entry]) -> list[Entry]:
    """Return the loss terms with a name each: by default the last part of `use`, lower-cased.

    Raises ValueError if two were given the same name.
    """
    defaults = [re.split("[.:]", term.component.use)[-1].lower() for term in terms]
    return _named(terms, defaults, "terms")


def name_stages(stages: list[Entry]) -> list[Entry]:
    """Return the stages with a name each: by default the phase, else its number ("stage2").

    A single stage is "train". Raises ValueError if two were given the same name.
    """
    plain = ["train"] if len(stages) == 1 else [f"stage{n}" for n, _ in enumerate(stages, start=1)]
    defaults = [stage.phase or name for stage, name in zip(stages, plain, strict=True)]
    return _named(stages, defaults, "stages")


def _named(entries: list[Entry], defaults: Sequence[str], what: str) -> list[Entry]:
    given = [entry.name for entry in entries if entry.name]
    if twice := [name for name in given if given.count(name) > 1]:
        raise ValueError(f"two {what} are named {twice[0]!r}")
    names: list[str] = []
    for entry, default in zip(entries, defaults, strict=True):
        numbered = (default, *(f"{default}_{n + 2}" for n in range(len(entries))))
        free = (name for name in numbered if name not in (*given, *names))
        names.append(entry.name or next(free))
    return [e.model_copy(update={"name": name}) for e, name in zip(entries, names, strict=True)]
