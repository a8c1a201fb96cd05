"""Machines that are alive, silent, and whose store is gone."""

from threading import Event, Thread
from types import SimpleNamespace

import pytest

from kdx.launch import heartbeat
from kdx.launch.heartbeat import SILENT, Heartbeat


class Store(dict):
    broken = False

    def set(self, key, value):
        if self.broken:
            raise RuntimeError("Broken pipe")
        self[key] = value.encode()

    def get(self, key):
        return self[key]

    def check(self, keys):
        return keys[0] in self


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def after(heart, now):
    """Return which machines are silent after a beat."""
    heart.clock.now = now
    heart.beat()
    return heart.silent()


def test_a_machine_whose_beat_does_not_change_is_given_up(clock):
    store = Store()
    first, second, third = (Heartbeat(store, me, 3, clock=clock) for me in range(3))
    assert [after(heart, 5.0) for heart in (first, second, third)] == [[], [], []]
    assert store["kdx/beat/1"] == b"1"
    assert after(first, 10.0) == []
    assert after(second, 40.0) == []
    assert after(first, 10.0 + SILENT) == []  # heard the second at 50, the third at 10
    assert after(first, 10.1 + SILENT) == [2]


def test_one_that_never_began_is_given_up_too(clock):
    clock.now = 100.0
    heart = Heartbeat(Store(), 0, 2, clock=clock)
    assert after(heart, 100.0 + SILENT) == []
    assert after(heart, 100.1 + SILENT) == [1]


def test_a_store_that_is_gone_is_a_silent_machine(clock):
    heart = Heartbeat(store := Store(), 1, 3, clock=clock)
    store["kdx/beat/0"] = b"1"
    assert after(heart, 5.0) == []
    store.broken = True
    assert after(heart, 30.0) == []
    assert after(heart, 5.1 + SILENT) == [
        0
    ]  # not the third, of which it would be told by the store


def test_a_store_that_never_answers_is_a_silent_machine(clock):
    heart, asked, answer = Heartbeat(store := Store(), 1, 2, clock=clock), Event(), Event()
    store.check = lambda keys: asked.set() or answer.wait()
    beating = Thread(target=heart.beat)
    beating.start()
    asked.wait()
    clock.now = SILENT
    assert heart.silent() == []
    clock.now = SILENT + 0.1
    assert heart.silent() == [0]
    store["kdx/beat/0"] = b"1"
    answer.set()
    beating.join()
    assert heart.silent() == []  # the time of its answer counts, not that of the question


@pytest.mark.parametrize(
    ("machines", "local", "watched"),
    [("1", "0", 0), ("2", "0", 1), ("2", "1", 0), (None, "0", 0)],
)
def test_the_first_process_of_each_of_several_machines_watches(
    monkeypatch, machines, local, watched
):
    begun = []

    def thread(**given):
        return SimpleNamespace(start=lambda: begun.append(given))

    monkeypatch.setattr(heartbeat.threading, "Thread", thread)
    for name, value in (("GROUP_WORLD_SIZE", machines), ("LOCAL_RANK", local), ("GROUP_RANK", "1")):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    heartbeat.begin.cache_clear()
    heartbeat.begin()
    heartbeat.begin()
    heartbeat.begin.cache_clear()
    assert [given["args"] for given in begun] == [(1, 2)] * watched


def test_a_silent_machine_ends_this_process(monkeypatch, capsys):
    class Never:
        def wait(self, seconds):
            return False

    monkeypatch.setenv("MASTER_ADDR", "h")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setattr(heartbeat, "_ended", Never())
    monkeypatch.setattr(heartbeat.distributed, "TCPStore", lambda *where, **more: Store())
    monkeypatch.setattr(heartbeat, "SILENT", 0.0)
    monkeypatch.setattr(heartbeat, "_beat", lambda heart: None)

    def ended(code):
        raise SystemExit(code)

    monkeypatch.setattr(heartbeat.os, "_exit", ended)
    with pytest.raises(SystemExit, match=r"^1$"):
        heartbeat._watch(0, 2)
    assert (
        "error: machine 1 of 2 has not answered for 0 s: this run ends" in capsys.readouterr().err
    )
