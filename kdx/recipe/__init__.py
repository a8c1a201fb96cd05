"""Recipes: one YAML file per training run, typed, checked whole, every problem with its line.

    recipe = load("configs/digits/kd.yaml", ["epochs=30"], plugins=["my_pkg"])
    student = recipe.student.component.build(num_classes=10, in_channels=1, image_size=8)

`schema.py` lists what a recipe may say. What `use:` names is described in `registry.py`.
"""

from kdx.recipe.arguments import Component
from kdx.recipe.errors import Problem, RecipeError
from kdx.recipe.loading import beside, load, load_student
from kdx.recipe.registry import allow
from kdx.recipe.schema import Recipe, Stage

__all__ = [
    "Component",
    "Problem",
    "Recipe",
    "RecipeError",
    "Stage",
    "allow",
    "beside",
    "load",
    "load_student",
]
