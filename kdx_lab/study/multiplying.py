"""The settings of a study, times the values of its `grid`."""

from itertools import product

from kdx_lab.study.schema import Axes, Setting, Study

__all__ = ["multiplied"]


def multiplied(study: Study) -> list[tuple[str, Setting]]:
    """Return the settings with their names, each with every combination of the grid's values."""
    found = []
    for name, section in study.settings.items():
        for values in product(*study.grid.values()):
            overrides = dict(zip(study.grid, values, strict=True))
            parts = [name, *(f"{_axis(k, study.grid)} = {v}" for k, v in overrides.items())]
            changed = {"overrides": {**section.overrides, **overrides}}
            found.append((", ".join(filter(None, parts)), section.model_copy(update=changed)))
    return found


def _axis(key: str, grid: Axes) -> str:
    """Return the last part of a dotted key, or all of it if another axis has the same."""
    last = key.rpartition(".")[2]
    return key if sum(each.rpartition(".")[2] == last for each in grid) > 1 else last
