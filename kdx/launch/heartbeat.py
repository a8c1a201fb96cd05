"""Machines of a run that tell one another that they are alive, since a dead network does not.

A process that is killed closes its connections, which the others notice. A machine that loses its
power or its network does not: they would wait for torch's timeout, 10 or 30 minutes.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Protocol

from torch import distributed

EVERY = 5.0  # seconds between two beats
SILENT = 40.0  # seconds without one, after which a machine is given up


class _Store(Protocol):
    """What machines share: torch's TCPStore on the main one."""

    def set(self, key: str, value: str) -> object: ...

    def get(self, key: str) -> bytes: ...

    def check(self, keys: list[str]) -> bool: ...


class Heartbeat:
    """This machine's beats, and when those of the others were last seen to change."""

    def __init__(
        self,
        store: _Store,
        me: int,
        count: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.me, self.beats, self.clock = store, me, 0, clock
        now = clock()
        self.seen = {other: ("", now) for other in range(count) if other != me}
        self.answered = now  # when the store last did

    def beat(self) -> None:
        """Beat once, and look at the others; blocks for as long as the store does not answer."""
        try:
            self.beats += 1
            self.store.set(f"kdx/beat/{self.me}", str(self.beats))
            for other, (value, _) in self.seen.items():
                key = f"kdx/beat/{other}"
                found = self.store.get(key).decode() if self.store.check([key]) else ""
                if found != value:
                    self.seen[other] = found, self.clock()
            self.answered = self.clock()
        except RuntimeError:  # the store is gone, and with it its machine
            pass

    def silent(self) -> list[int]:
        """Return the machines that have been silent for too long; the store's alone if it is."""
        now = self.clock()
        if self.me and now - self.answered > SILENT:
            return [0]
        return [other for other, (_, at) in self.seen.items() if now - at > SILENT]


_ended = threading.Event()


@cache
def begin() -> None:
    """Beat in the background, once, if this is the first process of one of several machines."""
    count, me = (int(os.environ.get(n, "1")) for n in ("GROUP_WORLD_SIZE", "GROUP_RANK"))
    if count > 1 and os.environ.get("LOCAL_RANK") == "0":
        threading.Thread(target=_watch, args=(me, count), daemon=True).start()


def end() -> None:
    """Stop watching: all machines end together from here on."""
    _ended.set()


def _watch(me: int, count: int) -> None:
    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    timeout = timedelta(seconds=EVERY)
    options = {"is_master": False, "wait_for_workers": False, "timeout": timeout}
    store = distributed.TCPStore(*where, **options)  # pyright: ignore[reportPrivateImportUsage]
    heart = Heartbeat(store, me, count)
    # In a thread of its own: torch's `check` waits without a timeout for a machine that is silent.
    threading.Thread(target=_beat, args=(heart,), daemon=True).start()
    while not _ended.wait(EVERY):
        if silent := heart.silent():
            name = ", ".join(map(str, silent))
            print(
                f"error: machine {name} of {count} has not answered for {SILENT:g} s: this run "
                "ends; --resume continues it from its last checkpoint",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            os._exit(1)


def _beat(heart: Heartbeat) -> None:
    while not _ended.wait(EVERY):
        heart.beat()
