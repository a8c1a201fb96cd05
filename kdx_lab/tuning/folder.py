"""Where the trials of a study lie."""

import re
from pathlib import PurePath

from kdx.recipe.paths import REPLACED

__all__ = ["TUNE", "is_aside"]

TUNE = "tune"  # in the study's directory


def is_aside(path: PurePath) -> bool:
    """Return whether a run's directory is that of a trial, or of a run that was replaced."""
    is_trial = TUNE in path.parts and re.fullmatch(r"trial_\d+", path.name) is not None
    return is_trial or any(part.endswith(REPLACED) for part in path.parts)
