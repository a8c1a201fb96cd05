"""Mean and standard deviation of repeated runs, and the JSON files beside the figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdx.util.files import write_whole

__all__ = ["Band", "as_json", "percent", "together", "write_numbers"]


@dataclass(frozen=True)
class Band:
    """Mean and sample standard deviation [n] of runs at `x` [n]; for one run the latter is 0."""

    x: NDArray
    mean: NDArray
    std: NDArray


def together(series: Sequence[Mapping[float, float]]) -> Band:
    """Return the band of series (values by x), at each x where all of them are finite."""
    common = sorted(set.intersection(*(set(each) for each in series)))
    x = [at for at in common if all(isfinite(each[at]) for each in series)]
    values = np.array([[each[at] for at in x] for each in series]).reshape(len(series), len(x))
    std = values.std(0, ddof=1) if len(series) > 1 else np.zeros(len(x))
    return Band(np.array(x), values.mean(0), std)


def percent(band: Band) -> Band:
    """Return a band of values in [0, 1] in percent."""
    return Band(band.x, 100 * band.mean, 100 * band.std)


def as_json(value: Any) -> Any:
    """Return nested values as JSON can hold them: arrays as lists, NaN and Inf as null."""
    if isinstance(value, Band):
        return as_json(vars(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def write_numbers(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write numbers as JSON, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(as_json(numbers), indent=1, allow_nan=False) + "\n")
