"""kdx: train a compact convolutional network to its best, from one recipe."""

import os

__version__ = "0.1.0"
__all__ = ["__version__"]

# Before torch is imported: how long its threads spin before they sleep. Long spinning crawls where
# something else wants the cores too, none at all makes small operations slow (benchmarks/LOG.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
