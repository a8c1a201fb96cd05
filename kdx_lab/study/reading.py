"""From the text of a study's file, with overrides of its keys, to a `Study`."""

import os
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdx.recipe import Recipe
from kdx.recipe.errors import Report
from kdx.recipe.overrides import override
from kdx.recipe.wording import explain, show, unknown
from kdx.recipe.yaml_source import parse, read_mapping
from kdx_lab.study.arms import BUILT_IN
from kdx_lab.study.checking import OF_THE_STUDY, check
from kdx_lab.study.multiplying import multiplied
from kdx_lab.study.schema import ANY_HEADING, Study

__all__ = ["read_study"]

_OLD, _NEW = "alone", "losses_without_teacher"
"""A key of older studies, and its name today."""
_OLD_OVERRIDE = re.compile(rf"^(settings\.[^.=]+\.|){_OLD}([.=])")


def read_study(
    path: str | os.PathLike[str], overrides: list[str] | None = None
) -> tuple[Study, Report]:
    """Return the study in the YAML file at `path`, with `key=value` overrides of its own keys.

    `arms=[...]` and `settings=[...]` choose among those of the file, by name.
    The report has the contradictions in it, and the lines of its values; the study's recipes are
    not read yet. Raises RecipeError for a file that is no study.
    """
    report = Report(os.fspath(path))
    data = read_mapping(Path(path), report, "a study is a mapping, with `recipe:` and `arms:`")
    if "student" in data and "arms" not in data:
        report.fail("this is a recipe, not a study: run it with `kdx distill`")
    if "settings" in data:
        data["settings"] = _filled(data["settings"])
    _rename_old_keys(data, report)
    _override(data, [_OLD_OVERRIDE.sub(rf"\1{_NEW}\2", text) for text in overrides or ()], report)
    if "arms" in data:
        data["arms"] = _arms(data["arms"], report)
    try:
        study = Study.model_validate(data)
    except ValidationError as invalid:
        for error in invalid.errors():
            *place, last = error["loc"]  # "[key]" where a name itself is wrong
            at, told = tuple(place) if last == "[key]" else error["loc"], explain(error, Study)
            of_recipes = Recipe.model_fields.keys() - OF_THE_STUDY.keys()
            if error["type"] == "extra_forbidden" and at in {(key,) for key in of_recipes}:
                told = f"is a key of recipes: set it below `overrides`, as overrides.{at[0]}"
            report.add(at, told)
            _remove(data, error["loc"])
        with suppress(ValidationError):  # what is left may be checked
            check(_left(data), report)
        report.raise_any()
        raise AssertionError("an invalid study has a problem") from None
    check(study, report)
    return study.model_copy(update={"settings": dict(multiplied(study))}), report


def _left(data: dict[str, Any]) -> Study:
    """Return a study without the sections that now lack a key; ValidationError if it has others."""
    try:
        return Study.model_validate(data, context=ANY_HEADING)
    except ValidationError as invalid:
        for error in invalid.errors():
            if error["type"] == "missing":
                _remove(data, error["loc"][:-1])
    return Study.model_validate(data, context=ANY_HEADING)


def _remove(data: Any, path: tuple[int | str, ...]) -> None:
    """Remove a key, all of a list, unless other sections may speak of it: `arms`, or an arm."""
    depth = 1
    while depth < len(path) and isinstance(data.get(path[depth - 1]), dict):
        data, depth = data[path[depth - 1]], depth + 1
    if path[0] != "arms" or depth > 2:
        data.pop(path[depth - 1], None)


def _rename_old_keys(data: dict[str, Any], report: Report) -> None:
    """Rename the key of older studies, at the top level and in settings; both are a problem."""
    settings = data.get("settings")
    named = settings.items() if isinstance(settings, dict) else ()
    for path, section in [((), data), *((("settings", name), each) for name, each in named)]:
        if isinstance(section, dict) and _OLD in section:
            old, new = (*path, _OLD), (*path, _NEW)
            if _NEW in section:
                report.add(old, f"is the old name of `{_NEW}`, which is given as well: remove one")
            section[_NEW] = section.pop(_OLD)
            report.locate(new, report.origin(old))


def _override(data: dict[str, Any], overrides: list[str], report: Report) -> None:
    """Set values of the study; below `overrides` a dotted key is a single key, as in the file.

    A list of names, of arms or settings, chooses among those of the file.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        section, _, dotted = key.partition(".")
        below = data.setdefault(section, {}) if section == "overrides" and dotted else None
        if equals and isinstance(below, dict):
            path = (section, dotted)
            report.locate(path, text)
            below[dotted] = parse(value, report, path=path, origin=text)
            continue
        before, origins = data.get(key), report.origins((key,))
        override(data, [text], report)
        given = data.get(key) if key in ("arms", "settings") else None
        if isinstance(before, dict) and isinstance(given, list):
            known = {*before, *(BUILT_IN if key == "arms" else ())}
            data[key] = _named(key, given, before, known, report)
            for place, origin in origins.items():
                if place[1:] and place[1] in data[key]:
                    report.locate(place, origin)
            if key == "arms":
                _leave_out(before.keys() - data[key].keys(), data)


def _arms(given: Any, report: Report) -> Any:
    """Return arms by name: a list names built-in ones; an empty section has its defaults."""
    return _named("arms", given, {}, None, report) if isinstance(given, list) else _filled(given)


def _named(
    key: str,
    given: list[Any],
    defined: dict[str, Any],
    known: Collection[str] | None,
    report: Report,
) -> dict[str, Any]:
    """Return the sections that a list names, as they are `defined`; others have their defaults.

    A name that is not `known` is a problem, unless that is None.
    """
    noun, chosen = {"arms": "an arm", "settings": "a setting"}[key], {}
    for index, name in enumerate(given):
        if not isinstance(name, str) or name in given[:index]:
            wrong = "is listed twice" if isinstance(name, str) else f"is not the name of {noun}"
            report.add((key, index), f"{show(name)} {wrong}")
        elif known is not None and name not in known:
            report.add((key, index), f"{show(name)} is not {noun}.{unknown(name, known)}")
            continue
        if isinstance(name, str):
            chosen[name] = defined.get(name)
            report.locate((key, name), report.origin((key, index)))
    return _filled(chosen)


def _leave_out(arms: Collection[str], data: dict[str, Any]) -> None:
    """Take arms out of the lists of the settings, and settings of these alone out of the study."""
    settings = data.get("settings")
    left = {}
    for name, section in settings.items() if isinstance(settings, dict) else ():
        if isinstance(section, dict) and isinstance(own := section.get("arms"), list):
            own = [each for each in own if not isinstance(each, str) or each not in arms]
            if not own:
                continue
            section = section | {"arms": own}
        left[name] = section
    if left:  # else each setting says what it lacks
        data["settings"] = left


def _filled(given: Any) -> Any:
    """Return sections by name, {} for an empty one; anything but a mapping unchanged."""
    if not isinstance(given, dict):
        return given
    return {name: {} if section is None else section for name, section in given.items()}
