"""Contradictions between the parts of a study."""

from math import prod

from kdx.recipe.errors import KeyPath, Report
from kdx.recipe.wording import show, unknown
from kdx.util.words import listed, repeated
from kdx_lab.study.arms import BUILT_IN
from kdx_lab.study.multiplying import multiplied
from kdx_lab.study.schema import Overrides, Study, heading

__all__ = ["OF_THE_STUDY", "check"]

MOST_RUNS = 10_000

OF_THE_STUDY = {
    "name": "runs are named by the study: set `name:` at the top level instead",
    "seed": "the study sets the seeds: use `seeds:` at the top level instead",
}
"""Keys of a recipe that no override may set, and what to use instead."""

_OTHER_IMAGES = "trials would be compared on different images: set it in `overrides`"
_OTHER_EPOCHS = "trials would be compared by different epochs: set it in `overrides`"
_NOT_SEARCHED = {
    "data.use": _OTHER_IMAGES,
    "data.limit": _OTHER_IMAGES,
    "data.validation": _OTHER_IMAGES,
    "select": _OTHER_EPOCHS,
    "evaluate_every": _OTHER_EPOCHS,
}
"""Keys, with those below them, that make trials incomparable, and why."""


def check(study: Study, report: Report) -> None:
    """Report contradictions between the parts."""
    if study.baseline not in study.arms:
        default = "" if "baseline" in study.model_fields_set else ", the default,"
        known = unknown(study.baseline, study.arms)
        report.add(("baseline",), f"{show(study.baseline)}{default} is not an arm.{known}")
    elif not any(study.baseline in (s.arms or study.arms) for s in study.settings.values()):
        report.add(("baseline",), f"{show(study.baseline)} is an arm of no setting: add it to one")
    if twice := repeated(map(str, study.seeds)):
        report.add(("seeds",), f"{listed(twice)}: listed twice")
    _check_overrides(("overrides",), study.overrides, report)
    for name, arm in study.arms.items():
        if (built_in := arm.arm or name) not in BUILT_IN:
            hint = unknown(built_in, BUILT_IN)
            report.add(("arms", name), f"{show(built_in)} is not a built-in arm.{hint}")
        _check_overrides(("arms", name, "overrides"), arm.overrides, report)
    _check_settings(study, report)
    _check_spaces(study, report)
    _check_overrides(("grid",), study.grid, report)
    runs = (
        prod(map(len, study.grid.values()))
        * len(study.seeds)
        * sum(len(s.arms or study.arms) for s in study.settings.values())
    )
    if runs > MOST_RUNS:
        report.fail(
            f"too many runs: settings x grid x arms x seeds is {runs:,}, at most {MOST_RUNS:,}"
        )
    elif study.grid:
        _check_headings(study, report)


def _check_settings(study: Study, report: Report) -> None:
    for setting, section in study.settings.items():
        _check_overrides(("settings", setting, "overrides"), section.overrides, report)
        for index, arm in enumerate(section.arms or ()):
            if arm not in study.arms:
                path = ("settings", setting, "arms", index)
                report.add(path, f"{show(arm)} is not an arm.{unknown(arm, study.arms)}")
        if not (study.recipe or section.recipe):
            path = ("settings", setting, "recipe") if setting else ("recipe",)
            report.add(path, "is missing: name the recipe that the arms are made of")


def _check_headings(study: Study, report: Report) -> None:
    """Report names of multiplied settings that are too long, or that two of them share."""
    names = [name for name, _ in multiplied(study)]
    for name in names:
        try:
            heading(name)
        except ValueError as error:
            report.add(("grid",), str(error))
    if twice := repeated(names):
        report.add(("grid",), f"two settings would be called {show(twice[0])}: a value is repeated")


def _check_spaces(study: Study, report: Report) -> None:
    spaces = {("tune", "space"): study.tune.space} if study.tune else {}
    spaces |= {("arms", name, "space"): arm.space for name, arm in study.arms.items() if arm.space}
    for path, space in spaces.items():
        _check_overrides(path, space, report)
        for key in space:
            for refused, why in _NOT_SEARCHED.items():
                if key == refused or key.startswith(f"{refused}."):
                    report.add((*path, key), why)
        if not study.tune:
            report.add(path, "without `tune:` nothing is searched: add it, or remove this")


def _check_overrides(path: KeyPath, overrides: Overrides, report: Report) -> None:
    """Report overrides of keys that the study itself sets."""
    for key in overrides:
        if instead := OF_THE_STUDY.get(key):
            report.add((*path, key), instead)
        elif "=" in key:
            report.add((*path, key), "a key cannot contain '='")
