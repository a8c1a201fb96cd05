"""The list of a study's runs, for --dry-run."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdx.recipe import Component, Recipe
from kdx.util.printing import say
from kdx.util.words import counted, listed
from kdx_lab.study.cell import Cell
from kdx_lab.study.grid import Grid
from kdx_lab.study.schema import Tune

__all__ = ["show"]


def show(grid: Grid, console: Console) -> None:
    """Print a table for each setting, with a line for each arm: what it trains, and how."""
    seeds = grid.study.seeds
    first = [cell for cell in grid.cells if cell.seed == seeds[0]]
    say(console, grid.study.title or grid.name, style="bold")
    for setting, cells in groupby(first, key=lambda cell: cell.setting):
        arms = list(cells)
        console.print()
        changed = grid.study.settings[setting].overrides
        say(console, ": ".join(filter(None, (setting, ", ".join(_setting(arms, changed))))))
        console.print(_table(arms))
    console.print()
    each = "" if len(seeds) == 1 else "s"
    text = f"{len(first)} with seed{each} {listed(list(map(str, seeds)))}"
    say(console, f"{counted(len(grid.cells), 'run')}: {text}, below {grid.directory}")
    if grid.study.tune:
        say(console, _tuning(grid, grid.study.tune))


def _tuning(grid: Grid, tune: Tune) -> str:
    """Return what is searched, and by how many runs before the others."""
    arms = len(grid.recipes)
    own = {f"{name}: ": arm.space for name, arm in grid.study.arms.items() if arm.space}
    spaces = [
        whose + ", ".join(f"{key} {value}" for key, value in space.items())
        for whose, space in {"": tune.space, **own}.items()
        if space
    ]
    each, runs = counted(tune.trials, "trial"), counted(tune.trials * arms, "run")
    how = f"by {tune.sampler}{', pruned' if tune.prune else ''}"
    return (
        f"tuning: {each} for each of {counted(arms, 'arm')}, {runs} with seed "
        f"{grid.study.seeds[0]}: {'; '.join(spaces)}, {how}"
    )


def _table(cells: Sequence[Cell]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("arm", "trained as", "losses", "epochs"):
        table.add_column(column)
    for cell in cells:
        recipe = cell.recipe
        table.add_row(*map(Text, (cell.arm, _form(recipe), _losses(recipe), _epochs(recipe))))
    return table


def _setting(cells: Iterable[Cell], overrides: Mapping[str, Any]) -> list[str]:
    """Return the networks that are exported, and the other overrides of the setting."""
    networks = dict.fromkeys(_named(cell.recipe.student.component) for cell in cells)
    others = (each for each in overrides.items() if not each[0].startswith("student"))
    return [" or ".join(networks), *filter(None, (_argument(*each) for each in others))]


def _form(recipe: Recipe) -> str:
    return " + ".join(map(_named, recipe.student.transforms)) or "compact"


def _named(component: Component) -> str:
    """Return a component in short: "ExpandNet ck, linear, rate 4"."""
    arguments = filter(None, (_argument(*each) for each in component.arguments.items()))
    return f"{component.use.rpartition('.')[2]} {', '.join(arguments)}".rstrip()


def _argument(name: str, value: Any) -> str:
    """Return an argument in short; "" if it is switched off."""
    if value in (False, None, "none"):
        return ""
    if value is True:
        return name
    return value if isinstance(value, str) else f"{name} {value}"


def _losses(recipe: Recipe) -> str:
    """Return the losses of the stages: "hint, then 0.1 cross_entropy + 0.9 kd"."""
    stages = [
        " + ".join(
            term.name if term.shown == f"1 {term.name}" else term.shown for term in stage.losses
        )
        for stage in recipe.resolved_stages()
    ]
    return ", then ".join(dict.fromkeys(stages))


def _epochs(recipe: Recipe) -> str:
    return " + ".join(str(stage.epochs) for stage in recipe.resolved_stages())
