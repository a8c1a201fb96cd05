"""Runs as the tasks of a Slurm array, by submitit. Machines share the output root."""

import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter

from kdx.util.files import write_whole
from kdx_lab.executors.artifacts import digest
from kdx_lab.executors.task import RunProcess, Task, last_line, needed

__all__ = ["Slurm", "minutes", "script"]

FOLDER = "slurm"  # below the study's logs: submitit's scripts, pickles and outputs
JOBS = "jobs.json"  # there: of runs by name, the job's id and the recipe's digest, until its end
DEFAULTS = {"time": "24:00:00", "job_name": "kdx"}
PAUSE = 1.0  # seconds between two looks at jobs that were cancelled
PATIENCE = 180.0  # seconds for their ends: Slurm waits for checkpoints, and sacct is asked seldom
LOOKS = 100  # at jobs in a second: each changes a mode on the shared file system
WAITING = ("PENDING", "UNKNOWN", "REQUEUED")
PASSING = (  # states that submitit takes for ends, and after which a job goes on
    *("SUSPENDED", "CONFIGURING", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SIGNALING"),
    *("STAGE_OUT", "STOPPED"),
)
COUNTS = ("nodes", "gpus_per_node", "gpus_per_task")  # or a range, or with a type: "a100:2"
OFTEN = 1_000_000  # times that a run may reach the time limit, and be requeued
SELDOM = 10.0  # seconds between two looks at many


class Slurm:
    """Trains tasks as one array per submission, each requeued from its checkpoint if preempted.

    Jobs that a process left which was killed are waited for, and not submitted again. `options`
    are sbatch's, such as `partition`; `cluster` is submitit's, "local" to try it.
    """

    threads: int | None = None

    def __init__(self, logs: Path, options: Mapping[str, str]) -> None:
        submitit, cluster = needed("submitit", "slurm"), options.get("cluster", "slurm")
        parameters = _parameters(options)
        try:
            self.executor = submitit.AutoExecutor(
                folder=logs / FOLDER, cluster=cluster, slurm_max_num_timeout=OFTEN
            )
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"--on slurm: {error}") from error
        common = {"name": parameters.pop("job_name"), "timeout_min": parameters.pop("time")}
        self.options = {f"slurm_{key}": value for key, value in parameters.items()}
        self.executor.update_parameters(**common)
        self.jobs: dict[str, Any] = {}
        self.known: dict[str, tuple[Any, str]] = {}
        self.cluster, self.file = cluster, logs / FOLDER / JOBS

    def submit(self, tasks: Sequence[Task]) -> None:
        """Submit the tasks as one array, all at once; ValueError if sbatch refuses it."""
        left = self._left() if self.cluster == "slurm" else {}
        digests = {task.name: digest(task.recipe.encode()) for task in tasks}
        for name in digests.keys() & left.keys():
            job, recipe = left[name]
            if recipe != digests[name]:
                raise ValueError(
                    f"--on slurm: job {job.job_id} still trains {name} by another recipe: wait for "
                    f"it, or scancel {job.job_id}"
                )
            self.jobs[name] = job
        if tasks := [task for task in tasks if task.name not in left]:
            self._submit(tasks)
        self.known |= {name: (each, known) for name, (each, known) in left.items()}
        self.known |= {name: (self.jobs[name], known) for name, known in digests.items()}
        self._keep()

    def _submit(self, tasks: Sequence[Task]) -> None:
        at_once = {"slurm_array_parallelism": len(tasks)}
        self.executor.update_parameters(**{**at_once, **self.options})
        try:
            with self.executor.batch():
                found = [self.executor.submit(Requeued(), task) for task in tasks]
        except RuntimeError as error:  # of submitit, with what sbatch has printed
            raise ValueError(f"--on slurm: not submitted: {last_line(error)}") from error
        self.jobs |= {task.name: job for task, job in zip(tasks, found, strict=True)}

    def _left(self) -> dict[str, tuple[Any, str]]:
        """Return the jobs of an earlier process that go on, and the digests of their recipes."""
        from submitit.slurm.slurm import SlurmJob

        try:
            known = TypeAdapter(dict[str, tuple[str, str]]).validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(
                f"{self.file}: damaged: cancel the study's jobs (squeue), and remove it"
            ) from error
        jobs = {
            name: (SlurmJob(self.file.parent, number), recipe)
            for name, (number, recipe) in known.items()
            if name not in self.jobs
        }
        return {
            name: (job, recipe)
            for name, (job, recipe) in jobs.items()
            if not _is_over(job) and job.state != "UNKNOWN"
        }

    def _keep(self) -> None:
        known = {name: (job.job_id, recipe) for name, (job, recipe) in self.known.items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.file, json.dumps(known, indent=2) + "\n")

    def poll(self) -> Mapping[str, bool]:
        """Return what sacct says; submitit asks it seldom."""
        time.sleep(min(len(self.jobs) / LOOKS, SELDOM))
        ended = {name: _is_over(job) for name, job in self.jobs.items()}
        return {n: over for n, over in ended.items() if over or self.jobs[n].state not in WAITING}

    def fetch(self, name: str) -> str:
        """Return why a run failed; its files are on the shared file system."""
        job = self.jobs.pop(name)
        self.known.pop(name, None)
        self._keep()
        try:
            return job.result()
        except Exception as error:  # of submitit: no result, or the task's own error
            return f"Slurm job {job.job_id}: {last_line(error)}"

    def cancel(self, name: str | None = None) -> None:
        """Cancel a job, or all and wait for their ends: Slurm sends SIGTERM first."""
        stopped = [job for each, job in self.jobs.items() if name in (None, each)]
        for job in stopped:
            job.cancel(check=False)
        until = time.monotonic() + PATIENCE
        while name is None and not all(job.done() for job in stopped) and time.monotonic() < until:
            time.sleep(PAUSE)


def _is_over(job: Any) -> bool:
    return job.done() and (job.paths.result_pickle.exists() or job.state not in PASSING)


class Requeued:
    """What a job of the array calls, and what it calls before it is preempted or times out."""

    run: RunProcess | None = None

    def __call__(self, task: Task) -> str:
        """Train or resume the run; return why it failed, "" if not."""
        usual = signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm sends it to all processes
        self.run = RunProcess(task)
        signal.signal(signal.SIGUSR2, usual)
        self.run.wait()
        return self.run.reason()

    def checkpoint(self, task: Task) -> Any:
        """Stop the run with a checkpoint, and return what resumes it."""
        from submitit.helpers import DelayedSubmission

        if self.run:
            self.run.stop()
            self.run.wait()
        return DelayedSubmission(Requeued(), task)


def script(logs: Path, options: Mapping[str, str], count: int) -> str:
    """Return the sbatch script of an array of `count` tasks; ValueError as `Slurm`."""
    needed("submitit", "slurm")
    from submitit.slurm.slurm import _make_sbatch_string

    words = (sys.executable, "-u", "-m", "submitit.core._submit", str((logs / FOLDER).absolute()))
    about = {"folder": logs / FOLDER, "map_count": count}
    given = {"array_parallelism": count, **_parameters(options)}
    return _make_sbatch_string(shlex.join(words), **about, **given)


def _parameters(options: Mapping[str, str]) -> dict[str, Any]:
    """Return options but `cluster` as submitit takes them; ValueError for one it does not know."""
    from submitit.core.plugins import get_executors
    from submitit.slurm.slurm import _make_sbatch_string

    if (cluster := options.get("cluster", "slurm")) not in get_executors():
        raise ValueError(f"--slurm.cluster={cluster}: use one of {', '.join(get_executors())}")
    options = {key: text for key, text in options.items() if key != "cluster"}
    known = {
        name: parameter.annotation
        for name, parameter in signature(_make_sbatch_string, eval_str=True).parameters.items()
        if name not in ("command", "folder", "map_count")
    }
    if unknown := sorted(options.keys() - known.keys()):
        raise ValueError(
            f"--slurm.{unknown[0]}: not an option of submitit; sbatch's others go into "
            '--slurm.additional_parameters=\'{"key": "value"}\''
        )
    given = {**DEFAULTS, **options}
    found = {key: _value(key, text, known[key]) for key, text in given.items() if key != "time"}
    return found | {"time": minutes(given["time"])}


def minutes(time: str) -> int:
    """Return Slurm's time in minutes, rounded up: "90", "2:30:00", "1-12", "1-12:30".

    ValueError for another text, and for none: runs are saved and requeued before their time ends.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not found:
        raise ValueError(f"--slurm.time={time}: not minutes, hours:minutes:seconds or days-hours")
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    units = [3600, 60, 1] if days or len(numbers) == 3 else [60, 1]
    given = zip(numbers, units, strict=False)  # "1-12" is days and hours only
    seconds = int(days or 0) * 86_400 + sum(number * unit for number, unit in given)
    if not seconds:
        raise ValueError(f"--slurm.time={time}: a run needs a limit, before which it is saved")
    return -(-seconds // 60)


def _value(key: str, text: str, kind: Any) -> Any:
    """Return an option as submitit's function is annotated; ValueError if it does not read so.

    A list or a mapping is JSON; words of srun's arguments, and one line of `setup`, need not be.
    """
    inner = {get_origin(each) or each for each in (kind, *get_args(kind))}
    try:
        if dict in inner:
            return TypeAdapter(dict[str, Any]).validate_json(text)
        if inner & {list, Iterable}:
            with suppress(ValueError):
                return TypeAdapter(list[str]).validate_json(text)
            return [text] if list in inner else shlex.split(text)
        if key in COUNTS and not text.isdecimal():
            return text
        if bool in inner and text in ("true", "false"):
            return text == "true"
        return TypeAdapter(kind).validate_strings(text)
    except ValueError as error:  # of pydantic, and of shlex
        wanted = str(getattr(kind, "__name__", "") if isinstance(kind, type) else kind)
        raise ValueError(f"--slurm.{key}={text}: not {wanted.replace('typing.', '')}") from error
