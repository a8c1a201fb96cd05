"""Build everything that a recipe names, print the plan, time a few steps, estimate the cost.

kdx dry-run configs/<dataset>/<recipe>.yaml [key=value ...]

Writes nothing; errors are those of the real run.
"""

import argparse

from rich.console import Console

from kdx.commands.shared import add_recipe, load_recipe, terminal
from kdx.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx dry-run`."""
    add_recipe(parser)


def run(args: argparse.Namespace) -> None:
    """Print the plan of the recipe."""
    dry_run(load_recipe(args), terminal())


def dry_run(recipe: Recipe, console: Console) -> None:
    """Print what a run of the recipe would do and cost; the errors are those of the run."""
    from kdx.commands.plan import print_plan

    print_plan(recipe, console)
