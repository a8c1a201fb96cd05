"""Stopping on a signal: after the same step in every process, with time to save."""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self, TypeVar

import torch
from torch import distributed

from kdx.util.errors import Stopped

T = TypeVar("T")
SIGNALS = (signal.SIGTERM, signal.SIGINT, *filter(None, [getattr(signal, "SIGHUP", None)]))
GRACE = 20.0  # seconds without a step, unless KDX_GRACE is set: launchers kill after 30
LAUNCHED = {
    "ACCELERATE_DYNAMO_BACKEND",
    "TORCHELASTIC_RUN_ID",
}  # by the launcher, this one's parent
AGAIN = 2.0  # seconds: a Ctrl-C after them ends the run; a launcher forwards the first at once


class Stop:
    """While entered, SIGTERM, SIGINT and SIGHUP request a stop instead of ending the process.

    So does the end of the launcher. In threads other than the main one signals work as usual.
    """

    def __init__(self, *, world: int) -> None:
        self.world = world
        self._asked_at: float | None = None
        self._entered = False
        is_launched = bool(LAUNCHED & set(os.environ))
        self._launcher = os.getppid() if is_launched else None
        self._pending: tuple[torch.Tensor, Any] | None = None
        self._reached, self._patient = threading.Event(), False
        self._alive, self._grace = time.monotonic(), _grace()
        self._group: Any = None

    def __enter__(self) -> Self:
        self._entered, self._asked_at = True, None
        self._before = {}
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        if threading.current_thread() is threading.main_thread():
            heard = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]  # not by nohup
            self._before = {number: signal.signal(number, self._ask) for number in heard}
        if self.world > 1:
            backend = distributed.get_backend()
            self._group = None if backend == "gloo" else distributed.new_group(backend="gloo")
            if self._before:
                self._watch()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._reached.set()
        if self._pending and (kind is None or issubclass(kind, Stopped)):
            self._pending[1].wait()
        self._pending, self._entered = None, False
        if self._sockets:
            signal.set_wakeup_fd(-1)
            for end in self._sockets:
                end.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether this process was asked to stop."""
        orphaned = self._launcher is not None and os.getppid() != self._launcher
        return self._asked_at is not None or orphaned

    def agreed(self) -> bool:
        """Return whether any process was asked to stop: the same on all that call it equally often.

        Each learns of the others at the call after the next: nobody waits.
        """
        self._alive = time.monotonic()
        if not self._entered or self.world == 1:
            return self._entered and self.asked
        agreed = False
        if self._pending:
            flag, work = self._pending
            work.wait()
            self._pending, agreed = None, bool(flag.item())
        if agreed:
            self._reached.set()
        else:
            flag = torch.tensor([int(self.asked)])
            work = distributed.all_reduce(flag, group=self._group, async_op=True)
            self._pending = flag, work
        return agreed

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Allow any time for what this encloses, such as saving, also after a signal."""
        self._patient = True
        try:
            yield
        finally:
            self._patient, self._alive = False, time.monotonic()

    def watched(self, batches: Iterable[T], *, most: int) -> Iterator[T]:
        """Yield the batches, at most `most` in any process; raise Stopped if all agree to stop."""
        asked = 0
        for batch in batches:
            yield batch
            asked += 1
            if self.agreed():
                raise Stopped
        if any(self.agreed() for _ in range(asked, most)):
            raise Stopped

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self._asked_at and now - self._asked_at > AGAIN:
            raise KeyboardInterrupt
        self._asked_at = self._asked_at or now

    def _watch(self) -> None:
        """End the process if a signal, whose byte wakes a thread, finds it waiting for others."""
        self._sockets = socket.socketpair()
        for end in self._sockets:
            end.setblocking(False)
        signal.set_wakeup_fd(self._sockets[1].fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._end_in_time, args=(self._sockets[0],), daemon=True).start()

    def _end_in_time(self, woken: socket.socket) -> None:
        with suppress(OSError, ValueError):  # closed, at the end
            while not (select.select([woken], [], [], 1.0)[0] and {*SIGNALS} & {*woken.recv(64)}):
                if self._reached.is_set():
                    return
            asked_at = time.monotonic()
            while not self._reached.wait(0.5):
                if self._patient or time.monotonic() - max(self._alive, asked_at) < self._grace:
                    continue
                late = f"no step ended within {self._grace:g} s of a signal to stop"
                print(f"error: {late}: no checkpoint was saved", file=sys.stderr, flush=True)
                os._exit(1)


def _grace() -> float:
    given = os.environ.get("KDX_GRACE", str(GRACE))
    with suppress(ValueError):
        if (grace := float(given)) > 0:
            return grace
    raise ValueError(f"KDX_GRACE={given!r} in the environment is not a number of seconds above 0")
