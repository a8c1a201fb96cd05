"""What a study would run, before it does."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from kdx.recipe import Recipe
from kdx.study.grid import Grid
from kdx.words import counted

__all__ = ["show"]


def show(grid: Grid, console: Console) -> None:
    """Print a line for each arm of each setting: what it trains, and how."""
    table = Table(title=grid.study.title or grid.name, box=SIMPLE_HEAD)
    for column in ("setting", "arm", "student", "losses", "epochs"):
        table.add_column(column)
    first = [cell for cell in grid.cells if cell.seed == grid.study.seeds[0]]
    for cell in first:
        table.add_row(cell.setting, cell.arm, *_described(cell.recipe))
    console.print(table)
    seeds = ", ".join(map(str, grid.study.seeds))
    console.print(
        f"{counted(len(grid.cells), 'run')}: {counted(len(first), 'arm')} x seeds {seeds}; "
        f"each recipe is written to {grid.directory}/.../recipe.yaml as it runs",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _described(recipe: Recipe) -> tuple[str, str, str]:
    student = recipe.student
    parts = [student.component.use, *map(str, student.component.arguments.values())]
    for transform in student.transforms:
        arguments = (f"{name} {value}" for name, value in transform.arguments.items())
        parts.append(f"+ {transform.use.rpartition('.')[2]} ({', '.join(arguments)})")
    stages = recipe.resolved_stages()
    losses = dict.fromkeys(
        " + ".join(f"{term.weight:g} {term.name}" for term in stage.losses) for stage in stages
    )
    epochs = " + ".join(f"{stage.epochs} {stage.phase or ''}".strip() for stage in stages)
    return " ".join(parts), ", then ".join(losses), epochs
