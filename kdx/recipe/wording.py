"""How problems are worded."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from typing import Any, get_origin

from pydantic import BaseModel

from kdx.recipe.resuming import sections_in
from kdx.util.words import counted, printable

_LONGEST = 1000  # characters of a message
_MANY = 30  # known names, of which only the nearest are shown
_LIKE = 0.6  # ratio of equal characters from which a name is suggested, as in difflib

_MEANT = {"learning_rate": "lr", "wd": "weight_decay"}  # by other libraries' names

_TYPES = {
    "bool": "true or false",
    "int": "an integer",
    "int_from_float": "an integer",
    "float": "a number",
    "string": "a string",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
    "is_instance_of": "a mapping with a `use:`",
    "path": "a path",
    "none_required": "null",
}


def show(value: Any) -> str:
    """Return `value` as it is quoted in a message, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def plain(text: str) -> str:
    """Return `text` on one line of at most 1,000 characters, unprintable characters escaped."""
    line = printable(" ".join(text.splitlines()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def unknown(name: str, known: Iterable[str]) -> str:
    """Return the tail of a message on an unknown name: the nearest, and all (of many, some).

    A name is compared with whole names and with the last parts of dotted ones; case counts last.
    """
    known = sorted(known)
    if (meant := _MEANT.get(name.lower())) in known:
        return f" Did you mean {meant!r}? Known: {', '.join(known)}"
    forms: dict[str, list[str]] = {}
    for each in known:
        for form in {each, each.rpartition(".")[2]}:
            forms.setdefault(form.lower(), []).append(each)
    like = get_close_matches(name.lower(), forms, n=len(forms) or 1, cutoff=_LIKE)
    likest = (each for form in like for each in forms[form])
    nearest = max(likest, key=lambda each: (_likeness(name, each), -len(each)), default=None)
    hint = f" Did you mean {nearest!r}?" if nearest else ""
    if more := len(known) > _MANY:
        known = get_close_matches(name, known, n=5, cutoff=0.3) or known[:5]
    return f"{hint} Known: {', '.join(known) or 'none'}{', ...' if more else ''}"


def _likeness(name: str, candidate: str) -> tuple[float, ...]:
    forms = (candidate, candidate.rpartition(".")[2])
    pairs = [((name.lower(), form.lower()), (name, form)) for form in forms]
    return max(tuple(SequenceMatcher(None, *each).ratio() for each in both) for both in pairs)


def explain(error: Any, model: type[BaseModel] | None = None) -> str:
    """Return what one of pydantic's `errors()` says, in a recipe's terms and with the value.

    `model` is what was validated, if it forbids other keys: its own are named.
    """
    if model and error["type"] == "extra_forbidden":
        *path, key = error["loc"]
        parts = iter(path)
        for part in parts:
            if part in model.model_fields:  # no index
                annotation = model.model_fields[part].annotation
                model = next(sections_in(annotation), model)
                if get_origin(annotation) is dict:
                    next(parts, None)  # a name
        known = [field.alias or name for name, field in model.model_fields.items()]
        return f"unknown key.{unknown(key, known)}"
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    stem = kind.removesuffix("_type").removesuffix("_parsing")
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if stem in _TYPES:
        quote = kind == "string_type" and isinstance(value, int | float)
        return f"{show(value)} is not {_TYPES[stem]}{': put it in quotes' if quote else ''}"
    if kind == "literal_error":
        return f"{show(value)} is not {context['expected']}"
    if kind in ("too_short", "too_long"):
        bound = "at least" if kind == "too_short" else "at most"
        limit = context["min_length" if kind == "too_short" else "max_length"]
        entries = counted(context["actual_length"], "entry", "entries")
        return f"has {entries}, but needs {bound} {limit}"
    if kind == "less_than_equal":
        return f"{show(value)} should be at most {context['le']:,}"
    return f"{show(value)} {error['msg'].removeprefix('Input ')}"
