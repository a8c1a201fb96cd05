"""What is wrong with the recipes of a study, each told once."""

from collections.abc import Iterator, Sequence

from kdx.recipe import Problem, RecipeError
from kdx.recipe.errors import Report, dotted
from kdx.util.words import listed
from kdx_lab.study.cell import Pair, label
from kdx_lab.study.multiplying import given_name
from kdx_lab.study.schema import Study

__all__ = ["Problems"]


class Problems:
    """The problems of a study's recipes; one that several recipes share is reported once."""

    def __init__(self, study: Study, report: Report, pairs: Sequence[Pair]) -> None:
        self._all, self._study, self._report = pairs, study, report
        self._found: dict[Problem, dict[Pair, None]] = {}

    def add(self, problem: Problem, setting: str, arm: str) -> None:
        """Note a problem of an arm's recipe."""
        self._found.setdefault(problem, {})[setting, arm] = None

    def raise_any(self) -> None:
        """Raise RecipeError with all problems, those of the study first, if there are any."""
        told = {f"{each.place}: {each.where}" for each in self._report.problems}
        found = [self._spelt(p, [*arms]) for p, arms in self._found.items() if p.place not in told]
        if all_of_them := [*self._report.problems, *found]:
            raise RecipeError(all_of_them)

    def _spelt(self, problem: Problem, pairs: Sequence[Pair]) -> Problem:
        where = ": ".join(filter(None, (self._whose(pairs, problem.place), problem.where)))
        place, arms = problem.place, {arm for _, arm in pairs}
        if place == self._report.file and len(arms) == 1:
            place = self._report.place(("arms", *arms))
        return Problem(place, where, problem.message)

    def _keys(self, pair: Pair) -> Iterator[str]:
        """Yield how the sections of an arm and of its setting begin in a place."""
        study, (setting, arm) = self._study, pair
        given = given_name(setting, study.settings[setting], study.grid)
        for path in (("arms", arm), ("settings", given)):
            yield f": {dotted(path)}."

    def _whose(self, pairs: Sequence[Pair], place: str) -> str:
        """Name arms: "" for all, also of what the place names, a setting for all of its own."""
        named = [pair for pair in self._all if any(key in place for key in self._keys(pair))]
        if len(pairs) == len(named or self._all):
            return ""
        names = []
        for setting in dict.fromkeys(setting for setting, _ in pairs):
            arms = [arm for each, arm in pairs if each == setting]
            whole = setting and len(arms) == sum(each == setting for each, _ in self._all)
            names += [setting] if whole else [label(setting, arm) for arm in arms]
        return listed(names, "; ")
