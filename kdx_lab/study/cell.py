"""A cell of a study's grid: one run."""

from dataclasses import dataclass
from pathlib import Path

from kdx.recipe import Recipe
from kdx.recipe.sections import Network, WeightFile

__all__ = ["Cell", "Pair", "label", "named", "of_seed"]

SEED = "{seed}"
"""In a path of weights: the seed of the run."""

Pair = tuple[str, str]  # a setting and an arm


@dataclass(frozen=True)
class Cell:
    """One run: an arm, in a setting ("" if the study has only one), with a seed."""

    setting: str
    arm: str
    seed: int
    recipe: Recipe

    @property
    def run_dir(self) -> Path:
        """The directory of the run."""
        return self.recipe.run_dir

    def __str__(self) -> str:
        """Return its name: "kernel 7, ck+fc, seed 3"."""
        return named(self.setting, self.arm, self.seed)


def label(setting: str, arm: str) -> str:
    """Return the name of an arm in a setting."""
    return ", ".join(filter(None, (setting, arm)))


def named(setting: str, arm: str, seed: int) -> str:
    """Return the name of a cell."""
    return ", ".join(filter(None, (setting, arm, f"seed {seed}")))


def of_seed(recipe: Recipe, seed: int, name: str) -> Recipe:
    """Return the recipe of a run, whose seed stands for each "{seed}" in the paths of weights."""

    def own(network: Network) -> Network:
        if not network.file or SEED not in network.file.path:
            return network
        path = network.file.path.replace(SEED, str(seed))
        weights = network.weights
        whole = not isinstance(weights, WeightFile)
        found = path if whole else weights.model_copy(update={"path": path})
        return network.model_copy(update={"weights": found})

    networks = {
        "student": own(recipe.student),
        "teacher": recipe.teacher and own(recipe.teacher),
        "teachers": {key: own(each) for key, each in recipe.teachers.items()},
    }
    return recipe.model_copy(update={"seed": seed, "name": name, **networks})
