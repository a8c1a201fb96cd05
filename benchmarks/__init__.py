"""Speed and memory, as ratios of interleaved rounds: see README.md beside this file."""

import kdx  # noqa: F401 - before torch: kdx says how its threads wait, as in a run

__all__: list[str] = []
