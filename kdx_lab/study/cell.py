"""A cell of a study's grid: one run."""

from dataclasses import dataclass
from pathlib import Path

from kdx.recipe import Recipe

__all__ = ["Cell", "Pair", "label", "named"]

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
