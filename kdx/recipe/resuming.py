"""What each key of a recipe means for a resume, as metadata of its field in the schema."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

ABSENT: Any = object()
"""The value of a key that a recipe does not have."""


@dataclass(frozen=True)
class Resume:
    """Metadata of a field, for it and for what is nested in it. A field without it must be equal.

    `may_differ`: its effect is compared in other ways, or is rounding only. `arguments` are those
    of a component that may differ. A key that was added later has the version `since` which it is
    there, and `absent`, the value that checkpoints without the key were trained with.
    """

    may_differ: bool = False
    arguments: tuple[str, ...] = ()
    since: str = ""
    absent: Any = ABSENT


MAY_DIFFER = Resume(may_differ=True)


def resume_rule(key: str, model: type[BaseModel]) -> Resume:
    """Return what a dotted key, such as `data.workers` or `stages.0.losses`, means for a resume."""
    name, _, inner = key.partition(".")
    if name.isdigit():  # in a list
        return resume_rule(inner, model)
    field = model.model_fields.get(name)
    if field is None:  # an argument of the section's component
        component = model.model_fields.get("component")
        return Resume(may_differ=bool(component) and name in _rule(component).arguments)
    rule, nested = _rule(field), next(sections_in(field.annotation), None)
    if nested and get_origin(field.annotation) is dict and "." in inner:  # sections by name
        return resume_rule(inner.partition(".")[2], nested)
    if rule.arguments and not nested:  # a list of components
        return Resume(may_differ=inner.partition(".")[2] in rule.arguments)
    return rule if rule != Resume() or not inner or not nested else resume_rule(inner, nested)


def _rule(field: FieldInfo) -> Resume:
    return next((each for each in field.metadata if isinstance(each, Resume)), Resume())


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in an annotation: of `list[Section] | None`, Section."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)


def flat(value: Any) -> dict[str, Any]:
    """Return the leaves of nested mappings and lists by dotted paths, as JSON holds them.

    An empty list has none.
    """
    return json.loads(json.dumps(dict(_leaves(value, "")), default=str))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, list) and not (value and isinstance(value, dict)):
        yield path, value
        return
    for key, part in enumerate(value) if isinstance(value, list) else value.items():
        yield from _leaves(part, f"{path}.{key}" if path else str(key))
