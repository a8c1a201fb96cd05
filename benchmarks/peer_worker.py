"""A contender in a process of its own: `python -m benchmarks.peer_worker LOOP SPEC`.

SPEC is JSON, the fields of `peer_loops.Spec`. Says `ready` when warmed up; each line that comes
in is answered by an epoch's images per second; ends with its input.
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
    """Warm up, then run epochs as asked."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
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
