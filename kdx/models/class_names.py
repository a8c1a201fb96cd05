"""The names of a network's classes: what its weights say, against those of the data."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from json import loads
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import safe_open

from kdx.models import weights
from kdx.models.pickled import read_pickled
from kdx.util.words import listed

KEYS = re.compile(r"class|label|categor|names|idx", re.I)
"""What an entry of a checkpoint is called that names classes: `class_to_idx`, `id2label`, ..."""

Names = Sequence[str]  # by class number


def names_in(path: str | PathLike[str], count: int) -> Names | None:
    """Return the names of `count` classes that a weight file holds beside its tensors, if any.

    In a .safetensors file they are metadata: kdx's, or JSON. In a .pth file they are a list, or a
    dict to or from class numbers, at the top or one level below. Errors as `weights.load`.
    """
    about = weights.read_metadata(path)
    if about:
        return about["extra"].get("class_names")
    file = Path(path, weights.FILE_IN_RUN) if Path(path).is_dir() else Path(path)
    content = None
    if file.suffix == ".safetensors":
        content = _metadata(file)
    else:
        with suppress(Exception):  # a broken pickle raises anything, and names are an extra
            content, _ = read_pickled(file)
    return next(_found(content, count), None)


def differences(theirs: Names, ours: Names, *, place: str, whose: str) -> list[str]:
    """Return a note if classes of the same number have different names; [] if they are the same.

    Case, punctuation and leading zeros do not count. Raises ValueError for another order: a name
    that both have, at another number. If only some names agree, numbers are not compared: they may
    count from 0 or 1.
    """
    first, other = ([str(name) for name in names] for names in (theirs, ours))
    plain = [[_plain(name) for name in names] for names in (first, other)]
    if all(len(set(a)) == len(set(b)) for a, b in zip(plain, (first, other), strict=True)):
        first, other = plain  # where spelling tells no two apart, as it does C and C++
    if first == other:
        return []
    same = sorted(first) == sorted(other)
    counts = Counter(first), Counter(other)
    places = [{name: at for at, name in enumerate(names)} for names in (first, other)]
    once = [name for name in other if counts[0][name] == counts[1][name] == 1]
    words = [name for name in once if same or not name.isdigit()]
    moved = [name for name in words if places[0][name] != places[1][name]]
    both = f"{whose} was trained on {listed(theirs)}; the data set has {listed(ours)}"
    if not moved:
        return [f"{place}: class names differ: {both}: make sure that their order is the same"]
    at = places[0][moved[0]], places[1][moved[0]]
    example = f"{ours[at[1]]!r} is its class {at[0]}, and class {at[1]} of the data set"
    remedy = "give it the classes in the same order: name the data's classes so that they sort so"
    if same and len(words) == len(other):
        remedy += f", or take the rows {[places[0][n] for n in other]} of its last layer"
    raise ValueError(f"{place}: class order mismatch: {both}: {example}; {remedy}")


def _plain(name: object) -> str:
    """Return a name without what only spelling adds: 'Traffic_Light' and 'traffic light', 07, 7."""
    letters = re.sub(r"[\W_]+", "", str(name)).casefold()
    return letters.lstrip("0") or letters[:1] or str(name)


def _metadata(path: Path) -> Mapping[str, Any]:
    def value(text: str) -> Any:
        try:
            return loads(text)
        except ValueError:
            return text.split(",")

    with safe_open(path, framework="pt") as file:
        return {key: value(text) for key, text in (file.metadata() or {}).items()}


def _found(content: Any, count: int) -> Iterator[Names]:
    """Yield what may be the names of `count` classes, by the form of an entry and by its key."""
    levels = [content, *content.values()] if isinstance(content, Mapping) else []
    for level in levels:
        for key, value in level.items() if isinstance(level, Mapping) else ():
            named = KEYS.search(key) if isinstance(key, str) else None
            if named and isinstance(value, list | tuple | Mapping) and len(value) == count:
                yield from _as_names(value)


def _as_names(value: Any) -> Iterator[Names]:
    """Yield the names if `value` is a list of them, {name: number} or {number: name}."""
    if not isinstance(value, Mapping):
        pairs = dict(enumerate(value))
    elif all(isinstance(number, int) for number in value.values()):
        pairs = {number: name for name, number in value.items()}
    else:
        pairs = {int(n): name for n, name in value.items() if re.fullmatch(r"\d+", str(n))}
    if set(pairs) == set(range(len(value))) and all(isinstance(n, str) for n in pairs.values()):
        yield [pairs[number] for number in range(len(value))]
