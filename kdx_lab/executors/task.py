"""A run to train, what trains it, and the process of `kdx distill` that every executor starts."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from io import TextIOWrapper
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from kdx.recipe import Recipe
from kdx.util.files import write_whole
from kdx_lab.study.arms import written

__all__ = ["STOPPED", "Executor", "RunProcess", "Task", "last_line", "needed", "task_of"]

WIDTH = 160  # of the lines in a log
PRELOADED = ["kdx.commands.main", "kdx.commands.distill", "kdx.run.run", "torch._dynamo",
             "torch.utils.tensorboard"]  # fmt: skip
STOPPED = "its process was asked to stop"
_STOPPED = 3  # the exit code of a run that a signal stopped


@dataclass(frozen=True)
class Task:
    """A run as plain values, which may go to another machine.

    `name` is the run's, `recipe` its YAML, as the run directory has it; `root` the output root and
    `log` the file for what it prints. `weights` are the paths of the teachers' weights by the
    recipe's key, `teachers` the networks with their arguments.
    """

    name: str
    recipe: str
    root: str
    log: str
    overrides: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    processes: int = 1
    threads: int | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    teachers: tuple[Mapping[str, Any], ...] = ()
    seed: int = 0

    @property
    def run_dir(self) -> Path:
        """The directory of the run."""
        return Path(self.root) / self.name

    def write_recipe(self) -> Path:
        """Write the recipe beside the log, and return its path."""
        file = Path(self.log).with_suffix(".yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, self.recipe)
        return file


class Executor(Protocol):
    """Trains tasks somewhere, which are known by their names.

    `threads` are for tasks without a number of their own, None for the cores of where they run.
    """

    threads: int | None

    def submit(self, tasks: Sequence[Task]) -> None:
        """Accept tasks; each resumes the run that lies in its directory, if there is one."""
        ...

    def poll(self) -> Mapping[str, bool]:
        """Return which tasks have started; True if they have ended, too, and not been fetched."""
        ...

    def fetch(self, name: str) -> str:
        """Make the directory of an ended run complete here; return why it failed, "" if not."""
        ...

    def cancel(self, name: str | None = None) -> None:
        """Stop a task, or all, with checkpoints; of all, also wait for these."""
        ...


def task_of(recipe: Recipe, logs: Path, *, threads: int | None = None) -> Task:
    """Return the task of a recipe; if it has no `threads` of its own, its processes share these."""
    if recipe.threads is None and threads:
        each = max(1, threads // (recipe.processes or 1))
        recipe = recipe.model_copy(update={"threads": each})
    overrides = []
    for teacher in recipe.all_teachers.values():
        if (memo := teacher.memo) and memo.directory:
            # outside the output root it is allowed as an override only
            overrides += written({f"{teacher.component.where}.memo.directory": memo.directory})
    return Task(
        name=recipe.name,
        recipe=recipe.portable_yaml(),
        root=str(recipe.locations.output_root),
        log=str(logs / f"{'--'.join(recipe.name.split('/')[-3:])}.txt"),
        overrides=tuple(overrides),
        plugins=tuple(recipe.locations.plugins),
        processes=recipe.processes or 1,
        threads=recipe.threads,
        weights=dict(_weights(recipe)),
        teachers=tuple(
            {"use": t.component.use, **t.component.arguments} for t in recipe.all_teachers.values()
        ),
        seed=recipe.seed,
    )


def _weights(recipe: Recipe) -> Iterator[tuple[str, str]]:
    for section in recipe.all_teachers.values():
        if section.file:
            part = "" if isinstance(section.weights, str) else ".path"
            yield f"{section.component.where}.weights{part}", os.path.abspath(section.file.path)


class RunProcess:
    """The process that trains or resumes a task's run; its output is appended to the log.

    It is forked from a server that has imported torch, so that it starts in a moment; and it stops
    with a checkpoint when the process that started it is killed. Systems that cannot fork start a
    new Python.
    """

    def __init__(self, task: Task, environment: Mapping[str, str] | None = None) -> None:
        self.log = Path(task.log)
        file = task.write_recipe()
        words = ["distill", str(file), "--resume", *task.overrides]
        words += [f"--plugin={name}" for name in task.plugins]
        words += [f"--output-root={task.root}"]
        words += [f"--processes={task.processes}"] if task.processes > 1 else []
        self._start = self.log.stat().st_size if self.log.exists() else 0
        method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
        context: Any = get_context(method)
        context.set_forkserver_preload(PRELOADED)
        alive, self._alive = context.Pipe(duplex=False)  # which ends with this process
        more = dict(environment or {})
        target = (words, os.fspath(self.log), more, sys.path, os.getcwd(), alive)
        self.process = context.Process(target=_distill, args=target, name=task.name)
        with _hidden_main():
            self.process.start()
        alive.close()

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.is_alive()

    def stop(self) -> None:
        """Ask the process to stop, with a checkpoint."""
        self.process.terminate()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the end of the process."""
        self.process.join(seconds)

    def reason(self) -> str:
        """Return why the run failed, "" if it did not; its process has ended."""
        code = self.process.exitcode
        if code == 0:
            return ""
        if code < 0:
            hint = ", usually because memory ran out" if code == -signal.SIGKILL else ""
            return f"its process was killed by {signal.Signals(-code).name}{hint}"
        if code == _STOPPED:
            return STOPPED
        content = self.log.read_bytes() if self.log.exists() else b""
        printed = content[self._start :].decode(errors="replace").strip()
        _, error, message = f"\n{printed}".rpartition("\nerror: ")
        last = printed.rpartition("\n")[2]
        return message if error else f"its process ended with exit code {code}: {last}"


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Hide the program, which multiprocessing would import into each process: Ray's is slow."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _distill(
    words: list[str],
    log: str,
    environment: dict[str, str],
    path: list[str],
    directory: str,
    alive: Connection,
) -> None:
    """Run `kdx distill` as a process of its own would; ends with its exit code.

    Stops as by SIGTERM when the process at the other end of `alive` is gone.
    """
    from kdx.commands.main import main

    with open(log, "ab", buffering=0) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        cast("TextIOWrapper", stream).reconfigure(line_buffering=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    sys.path[:] = path
    os.chdir(directory)
    os.environ.update(environment | {"COLUMNS": str(WIDTH)})
    sys.argv[:] = ["kdx", *words]
    threading.Thread(target=_stop_after, args=(alive,), daemon=True).start()
    sys.exit(main(words))


def _stop_after(alive: Connection) -> None:
    # Not by the parent's number: that is the server, which lives as long as one of its children.
    with suppress(EOFError, OSError):
        alive.recv_bytes()
    os.kill(os.getpid(), signal.SIGTERM)


def last_line(error: Exception) -> str:
    """Return the last line of an error's message, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def needed(module: str, extra: str) -> Any:
    """Import an optional package; ValueError with the extra to install if it is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{module} is not installed ({error}): pip install 'kdx[{extra}]'"
        ) from error
