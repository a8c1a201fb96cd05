"""The executor on Ray against a false Ray, which runs a task when it is asked for its end."""

import dataclasses
import sys
from collections import deque
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from kdx_lab.executors.artifacts import packed
from kdx_lab.executors.away import Update
from kdx_lab.executors.ray import ATTEMPTS, Ray
from kdx_lab.executors.task import STOPPED, Task


class Error(Exception):
    pass


NAMES = ("NodeDiedError", "WorkerCrashedError", "OutOfMemoryError", "ObjectLostError",
         "TaskCancelledError", "RayActorError")  # fmt: skip


class Queue:
    """The queue: a list."""

    def __init__(self, actor_options):
        self.items, self.actor = deque(), "actor"

    def qsize(self):
        return len(self.items)

    def get_nowait_batch(self, count):
        return [self.items.popleft() for _ in range(count)]


@pytest.fixture
def cluster(monkeypatch):
    """Return a false Ray: `outcomes` of the calls in turn, errors among them; `calls` so far."""
    fake = ModuleType("ray")
    errors = {name: type(name, (Error,), {}) for name in NAMES}
    fake.exceptions = SimpleNamespace(RayError=Error, **errors)
    fake.outcomes, fake.calls, fake.cancelled, fake.started = deque(), [], [], {}

    def get(reference):
        if isinstance(fake.started[reference], Exception):
            raise fake.started[reference]
        return fake.started[reference]

    def remote(**options):
        def call(*arguments):
            fake.calls.append((options, arguments))
            reference = f"call {len(fake.calls)}"
            if fake.outcomes:
                fake.started[reference] = fake.outcomes.popleft()
            return reference

        return lambda function: SimpleNamespace(remote=call)

    fake.get, fake.remote, fake.put = get, remote, lambda content: content
    fake.init = lambda **options: fake.calls.append(options)
    fake.wait = lambda references, **_: ([r for r in references if r in fake.started], [])
    fake.cancel = fake.cancelled.append
    fake.cluster_resources = lambda: {"GPU": 2.0}
    fake.get_runtime_context = lambda: SimpleNamespace(get_node_id=lambda: "n")
    strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.util.queue", SimpleNamespace(Queue=Queue))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    return fake


@pytest.fixture
def task(tmp_path):
    return Task("a/b", "mine: 1\n", str(tmp_path / "runs"), str(tmp_path / "b.txt"), processes=2,
                threads=3)  # fmt: skip


@pytest.fixture
def update(tmp_path):
    """Return a function: the name of a checkpoint to an update with it."""

    def update(name: str, place="a/b", log=b""):
        source = tmp_path / "sources" / name
        source.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
        (source / "recipe.yaml").write_text("theirs: 1\n")
        return Update("a/b", place, packed(source), log)

    return update


def test_a_run_comes_back_with_its_log_and_the_recipe_of_this_machine(cluster, task, update):
    executor = Ray("head:6379")
    assert cluster.calls.pop()["address"] == "head:6379"
    executor.submit([task])
    options, (sent, _, about, saved, queue) = cluster.calls[0]
    assert options == {"num_cpus": 6, "num_gpus": 2, "max_calls": 0, "max_retries": 0}
    assert (sent, about, saved, queue) == (task, [], b"", "actor")
    assert Path(task.log).with_suffix(".yaml").read_text() == "mine: 1\n"
    assert executor.poll() == {}
    executor.queue.items.append(Update("a/b"))
    assert executor.poll() == {"a/b": False}
    executor.queue.items.append(update("epoch_1"))
    executor.poll()
    assert (task.run_dir / "epoch_1").exists()
    memo = update("memo.json", place="memos/m")
    cluster.started["call 1"] = ("", [update("epoch_2", log=b"done\n"), memo])
    assert executor.poll() == {"a/b": True}
    executor.queue.items.append(update("epoch_1"))  # late
    assert executor.poll() == {"a/b": True}
    assert executor.fetch("a/b") == ""
    assert sorted(path.name for path in task.run_dir.iterdir()) == ["epoch_2", "recipe.yaml"]
    assert (task.run_dir / "recipe.yaml").read_text() == "mine: 1\n"
    assert Path(task.log).read_text(encoding="utf-8") == "done\n"
    assert (Path(task.root) / "memos/m/memo.json").exists()
    assert executor.poll() == {}


def test_output_roots_are_apart_on_a_machine_of_the_cluster(cluster, task):
    executor = Ray()
    for each in (task, dataclasses.replace(task, root=f"{task.root}2"), task):
        executor.submit([each])
    first, other, again = (sent[1] for _, sent in cluster.calls[1:])
    assert first == again != other


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_lost_machine_resumes_the_run_from_what_came_back(cluster, task, update, name):
    executor = Ray()
    cluster.outcomes.append(getattr(cluster.exceptions, name)("gone"))
    executor.submit([task])
    executor.queue.items.append(update("epoch_1"))
    assert executor.poll() == {"a/b": False}
    assert len(cluster.calls) == 3  # init, and two attempts
    assert cluster.calls[2][1][3] == packed(task.run_dir)
    cluster.outcomes.extend([getattr(cluster.exceptions, name)("gone\nmore")] * ATTEMPTS)
    cluster.started["call 3"] = cluster.outcomes.popleft()
    for _ in range(ATTEMPTS):
        executor.poll()
    assert executor.fetch("a/b") == f"{name}: gone"
    assert len(cluster.calls) == 1 + ATTEMPTS


def test_a_run_that_failed_is_not_tried_again(cluster, task):
    executor = Ray()
    cluster.outcomes.extend([("loss is nan", []), Error("a bug\nin detail")])
    executor.submit([task])
    assert executor.poll() == {"a/b": True}
    assert executor.fetch("a/b") == "loss is nan"
    executor.submit([task])
    executor.poll()
    assert executor.fetch("a/b") == "Error: a bug"


def test_what_is_stopped_is_here_afterwards(cluster, task, update):
    executor = Ray()
    executor.submit([task])
    cluster.cancel = lambda reference: cluster.started.update({reference: (STOPPED, [update("e")])})
    executor.cancel()
    assert (task.run_dir / "e").exists()
    assert executor.fetch("a/b") == STOPPED
    cluster.cancel = lambda r: cluster.started.update({r: cluster.exceptions.TaskCancelledError()})
    executor.submit([task])
    executor.cancel("a/b")
    executor.poll()
    assert executor.fetch("a/b") == STOPPED


def test_a_queue_that_is_lost_is_used_again(cluster, task):
    executor = Ray()

    def lost():
        raise cluster.exceptions.RayActorError

    executor.queue.qsize = lost
    assert executor.poll() == {}


def test_weights_are_packed_once(cluster, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"w")
    executor = Ray()
    for name in ("a", "b"):
        log = str(tmp_path / f"{name}.txt")
        executor.submit([Task(name, "", str(tmp_path), log, weights={"teacher.weights": weights})])
    (_, first), (_, second) = cluster.calls[1:]
    assert first[2] == [("teacher.weights", "w.safetensors", first[2][0][2])]
    assert first[5] is second[5]
