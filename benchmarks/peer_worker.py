"""The process of a contender: `python -m benchmarks.peer_worker LOOP SPEC`.

SPEC is JSON, the fields of `peer_loops.Spec`. Prints `ready` after warm-up; runs an epoch for each
line of input and prints its images per second; ends with its input.
"""

import json
import os
import sys
import time
from pathlib import Path

from benchmarks.peer_loops import LOOPS, Spec

__all__ = ["main"]

WARMUP = 2  # epochs: the first fills caches, the second reads them


def main() -> None:
    """Warm up, then run an epoch per line of input."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print
    runtime, text = sys.argv[1:]
    fields = json.loads(text)
    spec = Spec(**fields | {key: Path(fields[key]) for key in ("recipe", "directory")})
    epoch = LOOPS[runtime](spec)
    images = len(spec.job.splits.train)
    for _ in range(WARMUP):
        epoch()
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        epoch()
        print(images / (time.perf_counter() - started), file=answers, flush=True)


if __name__ == "__main__":
    main()
