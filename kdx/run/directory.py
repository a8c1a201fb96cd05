"""The directory of a run: whether it is taken, finished, or locked."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdx import checkpoints
from kdx.models.weights import FILE_IN_RUN, read_spec
from kdx.recipe import Recipe
from kdx.recipe.paths import REPLACED, refuse_links
from kdx.run.summary import FILE as SUMMARY
from kdx.util.files import write_whole

__all__ = ["claimed", "is_finished", "is_taken"]

MARK = ".replaced"  # in a run that was moved aside
UNTRAINED = {"recipe.yaml", "tensorboard"}  # what a run writes before its first epoch is done


def is_taken(run_dir: Path) -> bool:
    """Return whether something is there, other than a run that ended before its first epoch."""
    if not run_dir.exists():
        return False
    found = {path.name for path in run_dir.iterdir() if not path.name.startswith(".")}
    return bool(found) and not ("recipe.yaml" in found and found <= UNTRAINED)


def is_finished(run_dir: Path) -> bool:
    """Return whether a run has exported its student, and then written its summary.

    False also if the export cannot be read: it is written again from the last checkpoint.
    """
    student = run_dir / FILE_IN_RUN
    if not (run_dir / SUMMARY).is_file() or not student.is_file():
        return False
    try:
        return read_spec(student) is not None
    except ValueError:
        return False


@contextmanager
def claimed(recipe: Recipe, *, resume: bool) -> Iterator[Path | None]:
    """Hold the run directory, made where there is none; yield where an earlier run stands aside.

    Without `resume` the run that stands there is moved aside, if it is one of kdx: of two that
    were never finished, the first is kept. FileExistsError where it is none, or where another
    process trains it; ValueError for links in it, which are not written through.
    """
    run_dir, aside = recipe.run_dir, recipe.run_dir.with_name(f"{recipe.run_dir.name}{REPLACED}")
    if is_taken(run_dir):
        if not (run_dir / "recipe.yaml").is_file() and not (resume and checkpoints.any_at(run_dir)):
            done = "resumed" if resume else "replaced"
            raise FileExistsError(f"{run_dir} is not a run of kdx: it is not {done}")
        if not resume:
            with _locked(run_dir):
                _move(run_dir, aside)
    refuse_links(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with _locked(run_dir):
        checkpoints.sweep(run_dir / "checkpoints")
        write_whole(run_dir / "recipe.yaml", recipe.to_yaml())
        yield aside if (aside / MARK).is_file() else None


def _move(run_dir: Path, aside: Path) -> None:
    """Move a run aside, with a mark: what has none is never removed."""
    if (aside / MARK).is_file():
        shutil.rmtree(run_dir)
        return
    if aside.exists():
        raise FileExistsError(f"{aside} is in the way of the run to replace: move it")
    (run_dir / MARK).touch()
    run_dir.rename(aside)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes of this machine from it; a killed one lets go.

    Without POSIX, or on a file system that has no locks, nothing is kept.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise FileExistsError(
            f"{directory} is being trained by another process: wait for it, or stop it"
        ) from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        with suppress(OSError):  # forked loader workers have the lock, too: closing alone keeps it
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)
