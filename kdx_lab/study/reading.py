"""From the text of a study's file, with overrides of its keys, to a `Study`."""

import os
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdx.recipe.errors import Report
from kdx.recipe.overrides import override
from kdx.recipe.wording import explain, show, unknown
from kdx.recipe.yaml_source import parse, read_mapping
from kdx_lab.study.arms import BUILT_IN
from kdx_lab.study.checking import check
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
    arms, settings = data.get("arms"), data.get("settings")
    _override(data, [_OLD_OVERRIDE.sub(rf"\1{_NEW}\2", text) for text in overrides or ()], report)
    if isinstance(settings, dict) and isinstance(data["settings"], list):
        data["settings"] = _named(data["settings"], settings, "a setting", report)
    if "arms" in data:
        chosen = isinstance(data["arms"], list) and data["arms"] is not arms
        data["arms"] = _arms(data["arms"], arms if isinstance(arms, dict) else {}, report)
        if chosen and isinstance(data.get("settings"), dict):
            data["settings"] = _with_arms(data["settings"], data["arms"])
    try:
        study = Study.model_validate(data)
    except ValidationError as invalid:
        for error in invalid.errors():
            *place, last = error["loc"]  # "[key]" where a name itself is wrong
            report.add(tuple(place) if last == "[key]" else error["loc"], explain(error, Study))
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
    """Set values of the study; below `overrides` a dotted key is a single key, as in the file."""
    for text in overrides:
        key, equals, value = text.partition("=")
        section, _, dotted = key.partition(".")
        below = data.setdefault(section, {}) if section == "overrides" and dotted else None
        if equals and isinstance(below, dict):
            path = (section, dotted)
            report.locate(path, text)
            below[dotted] = parse(value, report, path=path, origin=text)
        else:
            override(data, [text], report)


def _arms(given: Any, defined: dict[str, Any], report: Report) -> Any:
    """Return arms by name: a list names those `defined`, or built-in ones."""
    return _named(given, defined, "an arm", report) if isinstance(given, list) else _filled(given)


def _named(given: list[Any], defined: dict[str, Any], noun: str, report: Report) -> dict[str, Any]:
    """Return the sections that a list names, each as it is `defined`; a built-in arm is empty."""
    key = noun.split()[1] + "s"
    known = {*defined, *(BUILT_IN if key == "arms" else ())}
    for index, name in enumerate(given):
        if not isinstance(name, str) or name in given[:index]:
            wrong = "is listed twice" if isinstance(name, str) else f"is not the name of {noun}"
            report.add((key, index), f"{show(name)} {wrong}")
        elif defined and name not in known:
            report.add((key, index), f"{show(name)} is not {noun}.{unknown(name, known)}")
        report.locate((key, str(name)), report.origin((key, index)))
    names = [name for name in given if isinstance(name, str) and (name in known or not defined)]
    return _filled({name: defined.get(name) for name in names})


def _with_arms(settings: dict[str, Any], arms: Collection[str]) -> dict[str, Any]:
    """Return the settings with those of their arms that are in `arms`; none is left without."""
    left = {}
    for name, section in settings.items():
        if isinstance(section, dict) and isinstance(section.get("arms"), list):
            section = section | {"arms": [arm for arm in section["arms"] if arm in arms]}
            if not section["arms"]:
                continue
        left[name] = section
    return left


def _filled(given: Any) -> Any:
    """Return sections by name, {} for an empty one; anything but a mapping unchanged."""
    if not isinstance(given, dict):
        return given
    return {name: {} if section is None else section for name, section in given.items()}
