"""Store the teacher's outputs for all views of a recipe with `teacher.memo`, before training.

kdx memo configs/<dataset>/<recipe>.yaml [key=value ...]
"""

import argparse

from kdx.commands.shared import add_recipe, load_recipe, terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kdx memo`."""
    add_recipe(parser, example="teacher.memo.views=5")


def run(args: argparse.Namespace) -> None:
    """Fill the memo of the recipe's teacher."""
    recipe = load_recipe(args)
    from kdx.commands.fill import fill

    fill(recipe, terminal())
