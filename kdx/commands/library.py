"""The commands as Python functions: `kdx.evaluate` and `kdx.compress`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from kdx.commands.compress import compress_checkpoint
from kdx.commands.evaluate import Assessment, assess, recipe_of
from kdx.models.certificate import Certificate
from kdx.recipe import allow
from kdx.run.interface import PathLike, overrides_of


def evaluate(
    path: PathLike,
    recipe: PathLike | None = None,
    *,
    split: Literal["test", "validation", "train"] = "test",
    plugins: Sequence[str] = (),
    **overrides: Any,
) -> Assessment:
    """Evaluate the student of a run directory or .safetensors file: see `metrics` of the result.

    `recipe` names the data, by default the recipe.yaml beside or above `path`; `overrides` as in
    `kdx.distill`. Raises FileNotFoundError, RecipeError, and ValueError if the two do not fit.
    """
    allow(plugins)
    beside = None if recipe is None else Path(recipe)
    found = recipe_of(Path(path), beside, overrides_of(overrides), plugins=plugins)
    return assess(found, Path(path), split=split)


def compress(
    checkpoint: PathLike,
    output: PathLike,
    recipe: PathLike | None = None,
    *,
    overwrite: bool = False,
    plugins: Sequence[str] = (),
) -> Certificate:
    """Write the compact student of a checkpoint to a .safetensors file; return its certificate.

    `recipe` as in `evaluate`. Raises FileExistsError unless `overwrite`, and ValueError if the
    certificate fails; nothing is written then.
    """
    if Path(output).exists() and not overwrite:
        raise FileExistsError(f"{output} exists: choose another file, or pass overwrite=True")
    allow(plugins)
    beside = None if recipe is None else Path(recipe)
    found = recipe_of(Path(checkpoint), beside, plugins=plugins)
    return compress_checkpoint(found, Path(checkpoint), Path(output))
