"""Tuning a study: each arm gets the same number of trials, then all seeds with the best values."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.recipe import Recipe
from kdx.util.errors import StudyError
from kdx.util.files import write_whole
from kdx_lab.executors.driving import Driver
from kdx_lab.study.finished import placeless
from kdx_lab.study.grid import Grid, Pair, label
from kdx_lab.tuning.search import BATCH, Search, Trial

__all__ = ["FILE", "changed", "chosen", "described", "tuned"]

FILE = "tuned.json"


def chosen(grid: Grid) -> Grid | None:
    """Return a study with the values of its tuned.json, None if that is missing or of another.

    ValueError if it is damaged.
    """
    return None if changed(grid) else _with(grid, _stored(grid)["chosen"])


def changed(grid: Grid) -> list[str]:
    """Return how the search differs from that of tuned.json; ValueError if that is damaged."""
    if not (stored := _stored(grid)):
        return ["nothing has been searched yet"]
    was, now = stored["tune"], _asked(grid)
    lines = []
    for key, new in now.items():
        if (old := was.get(key)) == new:
            continue
        if not isinstance(old, dict) or not isinstance(new, dict):
            told = "" if key == "recipes" else f": was {old}, now {new}"
            lines.append(f"{key}{told}")
            continue
        for name in [name for name in {**old, **new} if old.get(name) != new.get(name)]:
            told = "" if key == "recipes" else f": was {old.get(name)}, now {new.get(name)}"
            lines.append(f"{key.removesuffix('s')} of {name}{told}")
    return lines


def _stored(grid: Grid) -> dict[str, Any]:
    """Return the content of tuned.json, {} if it is missing; ValueError if it is damaged."""
    path = grid.directory / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["chosen"] and isinstance(found["tune"], dict):
            return found
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path}: damaged: remove it, and run the study again")


def _with(grid: Grid, found: Sequence[Mapping[str, Any]]) -> Grid:
    return grid.tuned({(each["setting"], each["arm"]): each["values"] for each in found})


def tuned(grid: Grid, driver: Driver, say: Callable[[str], object]) -> Grid:
    """Search values for each arm; return the study with the best ones, which tuned.json holds.

    Trials use the first seed. Raises StudyError if no trial of an arm succeeds, and Stopped.
    """
    if again := chosen(grid):
        return again
    tune = grid.study.tune
    assert tune, "the caller has looked"
    searches = {pair: Search(tune, grid.space(pair[1])) for pair in grid.recipes}
    trials: dict[Pair, list[Trial]] = {pair: [] for pair in searches}
    for first in range(0, tune.trials, BATCH):
        batch = {}
        for pair, search in searches.items():
            for number in range(first, min(first + BATCH, tune.trials)):
                asked, values = search.ask()
                trial = Trial(asked, values, grid.trial(pair, number, values))
                trials[pair].append(trial)
                batch[trial.recipe.name] = pair, trial
        _run(batch, driver, say)
        for pair, trial in batch.values():
            searches[pair].tell(trial)
        for each in trials.values():
            if any(trial.value() is not None for trial in each):  # else all may be tried again
                for trial in each:
                    trial.keep_failure()
    found = [_best(pair, trials[pair]) for pair in searches]
    content = {"tune": _asked(grid), "chosen": found}
    write_whole(grid.directory / FILE, json.dumps(content, indent=2) + "\n")
    return _with(grid, found)


def described(grid: Grid) -> str:
    """Return the chosen values of each arm, and what their search cost, as a list in Markdown."""
    lines = []
    for each in _stored(grid)["chosen"]:
        values = ", ".join(f"{key} = {value}" for key, value in each["values"].items())
        lines.append(
            f"- {label(each['setting'], each['arm'])}: {values} ({each['validation']:.4f} on "
            f"validation; the best of {each['trials']} trials, {each['pruned']} of them pruned; "
            f"{each['seconds'] / 3600:,.3g} hours of training)"
        )
    return "\n".join(lines)


def _run(
    batch: Mapping[str, tuple[Pair, Trial]], driver: Driver, say: Callable[[str], object]
) -> None:
    def ended(name: str, reason: str) -> None:
        pair, trial = batch[name]
        trial.failure = trial.failure or reason
        values = ", ".join(f"{key} {value}" for key, value in trial.values.items())
        value = trial.value()
        score = "not a number" if value is None else f"{value:.4f}"
        result = "pruned" if trial.watch() else reason or f"{score} on validation"
        say(f"tuning   {label(*pair)}: {Path(name).name}: {result} ({values})")

    for name, (_, trial) in batch.items():
        if why := trial.kept_failure():
            ended(name, why)
    todo = [trial.recipe for _, trial in batch.values() if not trial.is_over()]
    wrong = driver.train_teachers(todo)
    for name, why in wrong.items():
        ended(name, why)
    todo = [recipe for recipe in todo if recipe.name not in wrong]
    driver.run(todo, ended=ended, is_over=lambda name: batch[name][1].watch())


def _best(pair: Pair, trials: list[Trial]) -> dict[str, Any]:
    done = {n: each.value() for n, each in enumerate(trials) if not each.pruned}
    values = {n: value for n, value in done.items() if value is not None}
    if not values:
        raise StudyError(f"tuning {label(*pair)}: none of {len(trials)} trials succeeded")
    best = max(values, key=lambda n: values[n])  # the earliest of equal ones
    return {
        "setting": pair[0],
        "arm": pair[1],
        "values": dict(trials[best].values),
        "validation": values[best],
        "trial": best,
        "trials": len(trials),
        "pruned": sum(each.pruned for each in trials),
        "seconds": sum(each.seconds() for each in trials),
    }


def _asked(grid: Grid) -> dict[str, Any]:
    assert grid.study.tune, "the caller has looked"
    told = {
        "spaces": {label(*pair): grid.space(pair[1]) for pair in grid.recipes},
        "recipes": {label(*pair): _digest(recipe) for pair, recipe in grid.recipes.items()},
    }
    return json.loads(json.dumps({**grid.study.tune.model_dump(exclude={"space"}), **told}))


def _digest(recipe: Recipe) -> str:
    found = placeless(recipe)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
