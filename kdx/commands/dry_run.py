"""Build everything that a recipe names, print the plan, time a few steps, estimate the cost.

kdx dry-run configs/<dataset>/<recipe>.yaml [key=value ...]

Writes nothing; errors are those of the real run.
"""

import argparse

from kdx.commands.scale import add_scale, asked
from kdx.commands.shared import add_recipe, load_recipe, terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx dry-run`."""
    add_recipe(parser)
    add_scale(parser)


def run(args: argparse.Namespace) -> None:
    """Print the plan of the recipe."""
    recipe = load_recipe(args)
    from kdx.commands.plan import dry_run

    dry_run(recipe, terminal(), **asked(args))
