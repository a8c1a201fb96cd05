"""Where the trials of a study lie."""

from pathlib import PurePath

from kdx.recipe.paths import REPLACED

__all__ = ["TUNE", "is_aside"]

TUNE = "tune"  # in the study's directory


def is_aside(path: PurePath) -> bool:
    """Return whether a path below a study is of a trial, or of a run that was replaced."""
    return TUNE in path.parts or any(part.endswith(REPLACED) for part in path.parts)
