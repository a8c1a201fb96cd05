"""Runs as tasks of a Ray cluster, whose machines need not share files."""

import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdx.util.files import write_whole
from kdx_lab.executors.artifacts import digest, needed_by, packed, take_back, unpacked
from kdx_lab.executors.away import Artifact, Update, train
from kdx_lab.executors.task import STOPPED, Task, needed

__all__ = ["Ray"]

ATTEMPTS = 10  # of a run whose machine dies
PATIENCE = 90.0  # seconds for the checkpoints of runs that are stopped


class Ray:
    """Trains tasks on a cluster: this machine as one, or the one at `address`.

    What a run reads goes to a machine once, by its content. Checkpoints come back while it trains:
    if its machine dies it is resumed on another, and by any executor if this process is stopped.
    """

    threads: int | None = 1

    def __init__(self, address: str = "") -> None:
        self.ray = ray = needed("ray", "ray")
        where: dict[str, Any] = {"address": address} if address else {}
        ray.init(**where, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}
        self.queue = Queue(actor_options=options)
        self.gpus = int(ray.cluster_resources().get("GPU", 0) > 0)
        self.tasks: dict[str, Task] = {}
        self.results: dict[str, Any] = {}  # references
        self.attempts: dict[str, int] = {}
        self.reasons: dict[str, str] = {}  # of what has ended
        self.started: set[str] = set()
        self.done: set[str] = set()
        self.packed: dict[tuple[Path, int], tuple[str, Any]] = {}

    def submit(self, tasks: Sequence[Task]) -> None:
        """Start tasks; Ray decides where and when."""
        for task in tasks:
            self.tasks[task.name] = task
            task.write_recipe()
            self.attempts[task.name] = self.attempts.get(task.name, 0) + 1
            cores, gpus = (task.threads or 1) * task.processes, task.processes * self.gpus
            # A worker trains run after run, also on GPUs, of which it holds none itself.
            often = {"max_calls": 0, "max_retries": 0}
            remote = self.ray.remote(**often, num_cpus=cores, num_gpus=gpus)(_train)
            artifacts = [self._artifact(*each) for each in needed_by(task)]
            about, contents = [each[:3] for each in artifacts], [each[3] for each in artifacts]
            place = f"{socket.gethostname()}:{os.path.abspath(task.root)}".encode()
            take_back(task.run_dir)
            saved = self.ray.put(packed(task.run_dir) if task.run_dir.is_dir() else b"")
            self.results[task.name] = remote.remote(
                task, digest(place), about, saved, self.queue.actor, *contents
            )

    def _artifact(self, key: str, path: Path) -> tuple[str, str, str, Any]:
        at = (path, path.stat().st_mtime_ns)
        if at not in self.packed:
            content = packed(path)
            self.packed[at] = digest(content), self.ray.put(content)
        return key, path.name, *self.packed[at]

    def poll(self) -> Mapping[str, bool]:
        """Take what has arrived, and submit again what a machine took down with it."""
        self._receive()
        ended = {name: self._ended(name) for name in list(self.results)}
        return {name: over for name, over in ended.items() if over or name in self.started}

    def _ended(self, name: str) -> bool:
        if name in self.reasons:
            return True
        ready, _ = self.ray.wait([self.results[name]], timeout=0)
        if not ready:
            return False
        errors = self.ray.exceptions
        lost = (errors.NodeDiedError, errors.WorkerCrashedError, errors.OutOfMemoryError,
                errors.ObjectLostError)  # fmt: skip
        try:
            self.reasons[name], updates = self.ray.get(self.results[name])
            self._deliver(updates)
            self.done.add(name)
        except errors.TaskCancelledError:
            self.reasons[name] = STOPPED
        except errors.RayError as error:
            if isinstance(error, lost) and self.attempts[name] < ATTEMPTS:
                self._receive()
                self.submit([self.tasks[name]])
                return False
            first, *_ = str(error).strip().splitlines() or [""]
            self.reasons[name] = f"{type(error).__name__}: {first}"
        return True

    def _receive(self) -> None:
        with suppress(self.ray.exceptions.RayActorError):  # it is started again
            self._deliver(self.queue.get_nowait_batch(self.queue.qsize()))

    def _deliver(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if update.task in self.done:  # overtaken by what the task has returned
                continue
            task = self.tasks[update.task]
            self.started.add(update.task)
            if update.log:
                Path(task.log).parent.mkdir(parents=True, exist_ok=True)
                with open(task.log, "ab") as file:
                    file.write(update.log)
            is_run, place = update.place == task.name, Path(task.root) / update.place
            if update.archive and (is_run or not place.exists()):
                unpacked(update.archive, place)
                if is_run:  # its paths are those of this machine
                    write_whole(place / "recipe.yaml", task.recipe)

    def fetch(self, name: str) -> str:
        """Return why a run failed; its directory has come back."""
        del self.results[name]
        return self.reasons.pop(name)

    def cancel(self, name: str | None = None) -> None:
        """Stop a run, or all and wait until their checkpoints are here."""
        stopped = {n: ref for n, ref in self.results.items() if name in (None, n)}
        for each, ref in stopped.items():
            self.attempts[each] = ATTEMPTS
            self.ray.cancel(ref)
        if name is None and stopped:
            self.ray.wait([*stopped.values()], num_returns=len(stopped), timeout=PATIENCE)
            self.poll()


def _train(
    task: Task,
    study: str,
    about: Sequence[tuple[str, str, str]],
    saved: bytes,
    queue: Any,
    *contents: bytes,
) -> Any:
    """Train a run on the machine where this is called; its files are in the folder of a `study`.

    It never waits for Ray, which would start another run on the cores of one that waits.
    """
    import ray

    node = ray.get_runtime_context().get_node_id()[:16]
    root = Path(tempfile.gettempdir()) / f"kdx-{os.getuid()}-{node}" / study / "runs"
    artifacts = [Artifact(*each, content) for each, content in zip(about, contents, strict=True)]
    return train(task, artifacts, saved, root, queue.put.remote)
