"""The settings of a study, times the values of its `grid`."""

from collections.abc import Mapping
from itertools import product

from kdx_lab.study.schema import Axes, Setting, Study

__all__ = ["given_name", "multiplied"]


def multiplied(study: Study) -> list[tuple[str, Setting]]:
    """Return the settings with their names, each with every combination of the grid's values."""
    found = []
    for name, section in study.settings.items():
        for values in product(*study.grid.values()):
            overrides = dict(zip(study.grid, values, strict=True))
            parts = [name, _values(overrides, study.grid)]
            changed = {"overrides": {**section.overrides, **overrides}}
            found.append((", ".join(filter(None, parts)), section.model_copy(update=changed)))
    return found


def given_name(name: str, section: Setting, grid: Axes) -> str:
    """Return the name that a multiplied setting has in the file."""
    values = _values({key: section.overrides[key] for key in grid}, grid)
    return name.removesuffix(values).removesuffix(", ")


def _values(overrides: Mapping[str, object], grid: Axes) -> str:
    return ", ".join(f"{_axis(key, grid)} = {value}" for key, value in overrides.items())


def _axis(key: str, grid: Axes) -> str:
    """Return the last part of a dotted key, or all of it if another axis has the same."""
    last = key.rpartition(".")[2]
    return key if sum(each.rpartition(".")[2] == last for each in grid) > 1 else last
